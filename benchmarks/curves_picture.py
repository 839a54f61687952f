def draw(results, file):
    pass
