// A dial for orientations: a bar through the middle of a circle, turned by pointer or keyboard.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".dial");
  const bar = root.querySelector(".bar");
  const text = root.querySelector("text");
  let angle = data.angle;

  const ring = root.querySelector(".ring");
  if (!ring.childElementCount) {
    // The hues run round once in 180 degrees, as the angles of stripes do.
    const count = 2 * data.tints.length;
    for (let index = 0; index < count; index += 1) {
      const at = (turn) => {
        const radians = (turn * 2 * Math.PI) / count;
        return `${50 + 44 * Math.cos(radians)} ${50 - 44 * Math.sin(radians)}`;
      };
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", `M ${at(index - 0.55)} A 44 44 0 0 0 ${at(index + 0.55)}`);
      path.setAttribute("stroke", data.tints[index % data.tints.length]);
      ring.appendChild(path);
    }
  }
  const draw = () => {
    bar.setAttribute("transform", `rotate(${-angle} 50 50)`);
    text.textContent = `${angle}°`;
    root.setAttribute("aria-valuenow", angle);
    root.setAttribute("aria-valuetext", `${angle} degrees`);
  };
  const turn = (to) => {
    angle = ((Math.round(to) % 180) + 180) % 180;
    draw();
  };
  const towards = (event) => {
    const box = root.getBoundingClientRect();
    const x = event.clientX - box.left - box.width / 2;
    const y = box.top + box.height / 2 - event.clientY;
    return (Math.atan2(y, x) * 180) / Math.PI;
  };
  const send = () => {
    if (angle !== data.angle) setTriggerValue("turned", angle);
  };

  draw();
  root.onpointerdown = (event) => {
    root.setPointerCapture(event.pointerId);
    root.focus();
    turn(towards(event));
    event.preventDefault();
  };
  root.onpointermove = (event) => {
    if (root.hasPointerCapture(event.pointerId)) turn(towards(event));
  };
  root.onpointerup = send;
  let pending = null;
  root.onkeydown = (event) => {
    const steps = {
      ArrowRight: -1, ArrowLeft: 1, ArrowUp: 1, ArrowDown: -1, PageUp: 15, PageDown: -15,
    };
    if (event.key in steps) turn(angle + steps[event.key]);
    else if (event.key === "Home") turn(0);
    else return;
    event.preventDefault();
    // Held keys turn the dial; the page follows when they rest.
    clearTimeout(pending);
    pending = setTimeout(send, 250);
  };
}
