"""`python -m polymodal`, and `torchrun -m polymodal` for several processes."""

from polymodal.cli.main import main

if __name__ == "__main__":
    main()
