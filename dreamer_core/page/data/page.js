"use strict";

// Films: one image of a sheet after the other, as long as somebody looks and wants it.
const isStill = matchMedia("(prefers-reduced-motion: reduce)");

for (const player of document.querySelectorAll(".player")) {
  const { frames, every, fps, context } = player.dataset;
  const [button, slider, output] = player.querySelectorAll("button, input, output");
  const stages = [...player.querySelectorAll(".stage")];
  let [timer, isWanted, isSeen] = [null, !isStill.matches, false];

  const show = () => {
    const at = Number(slider.value);
    for (const stage of stages) {
      const { columns, rows } = stage.dataset;
      const [x, y] = [at % columns, Math.floor(at / columns)];
      stage.style.backgroundPosition = `${part(x, columns)}% ${part(y, rows)}%`;
    }
    const step = at * every;
    const kind = context === undefined ? "" : step < context ? ", seen" : ", imagined";
    output.value = `step ${step}${kind}`;
  };
  const settle = () => {
    const isOn = isWanted && isSeen;
    if (isOn && timer === null) timer = setInterval(next, 1000 / fps);
    if (!isOn && timer !== null) timer = clearInterval(timer) ?? null;
    button.textContent = isWanted ? "Pause" : "Play";
  };
  const next = () => {
    slider.value = (Number(slider.value) + 1) % frames;
    show();
  };
  button.addEventListener("click", () => {
    isWanted = !isWanted;
    settle();
  });
  slider.addEventListener("input", () => {
    isWanted = false;
    settle();
    show();
  });
  new IntersectionObserver(([entry]) => {
    isSeen = entry.isIntersecting;
    settle();
  }).observe(player);
  show();
  settle();
}

/** Where a background of so many equal parts has to be, to show one of them. */
function part(index, count) {
  return count > 1 ? (100 * index) / (count - 1) : 0;
}

// On a phone, what is long is closed at first.
if (innerWidth < 600) for (const each of document.querySelectorAll("details")) each.open = false;

// The theme: that of the system, or the other one for as long as the page is open.
const theme = document.querySelector("#theme");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const name = () => (theme.textContent = isDark() ? "Light" : "Dark");
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  name();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
theme.hidden = false;
name();
