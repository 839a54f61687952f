// Drawing on a canvas, by mouse, pen or finger; the value is a PNG file as a data URL, or "".
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d", { alpha: false });
const paper = canvas.dataset.paper;
let ink = canvas.dataset.ink;
let at = null;

const clean = () => {
  pen.fillStyle = paper;
  pen.fillRect(0, 0, canvas.width, canvas.height);
};
const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * canvas.width) / box.width,
    ((event.clientY - box.top) * canvas.height) / box.height,
  ];
};
const stroke = (to) => {
  pen.strokeStyle = ink;
  pen.lineWidth = canvas.width / 11;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...at);
  pen.lineTo(...to);
  pen.stroke();
  at = to;
};

clean();
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  at = place(event);
  stroke(at);
});
canvas.addEventListener("pointermove", (event) => at && stroke(place(event)));
canvas.addEventListener("pointerup", () => {
  at = null;
  props.value = canvas.toDataURL("image/png");
});
element.querySelectorAll("button").forEach((button) =>
  button.addEventListener("click", () => {
    if (button.dataset.ink) {
      ink = button.dataset.ink;
    } else {
      clean();
      props.value = "";
    }
  }),
);
watch("value", () => props.value || clean());
