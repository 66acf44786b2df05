// A sheet of tiles of which one can be chosen, by pointer or by keyboard.
export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".tiles");
  const picture = root.querySelector("img");
  const chosenFrame = root.querySelector(".chosen");
  const pointedFrame = root.querySelector(".pointed");
  const label = parentElement.querySelector(".label");
  const { columns, count, names, chosen } = data;
  const rows = Math.ceil(count / columns);

  picture.src = data.source;
  picture.alt = data.alt;
  root.setAttribute("aria-label", data.alt);
  root.style.maxWidth = `${data.width}px`;

  const place = (frame, index) => {
    const inside = index !== null && index >= 0 && index < count;
    frame.hidden = !inside;
    if (!inside) return;
    frame.style.left = `${(100 * (index % columns)) / columns}%`;
    frame.style.top = `${(100 * Math.floor(index / columns)) / rows}%`;
    frame.style.width = `${100 / columns}%`;
    frame.style.height = `${100 / rows}%`;
  };
  let pointed = null;
  const point = (index) => {
    pointed = index !== null && index >= 0 && index < count ? index : null;
    place(pointedFrame, pointed);
    const shown = pointed === null ? chosen : pointed;
    label.textContent = shown === null ? data.hint : names[shown];
  };
  const under = (event) => {
    const box = picture.getBoundingClientRect();
    const col = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const inside = col >= 0 && col < columns && row >= 0 && row < rows;
    return inside ? row * columns + col : null;
  };

  place(chosenFrame, chosen);
  point(null);
  root.onpointermove = (event) => point(under(event));
  root.onpointerleave = () => point(null);
  root.onclick = (event) => {
    const index = under(event);
    if (index !== null && index < count) setTriggerValue("picked", index);
  };
  root.onkeydown = (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    if (event.key in steps) {
      const from = pointed === null ? (chosen === null ? 0 : chosen) : pointed;
      point(Math.min(count - 1, Math.max(0, from + steps[event.key])));
      event.preventDefault();
    } else if (event.key === "Enter" && pointed !== null) {
      setTriggerValue("picked", pointed);
    }
  };
}
