// The picture of the home page: one step after the other. Without this script all of it is visible.
// The arrow keys step and the space bar plays. Who asks for no motion steps by hand.

for (const figure of document.querySelectorAll("figure.flow")) {
  const controls = figure.querySelector(".flow-controls");
  const caption = controls.querySelector("span");
  const play = controls.querySelector('[data-flow="play"]');
  const captions = [...figure.querySelectorAll(".flow-captions li")].map((one) => one.textContent);
  const parts = [...figure.querySelectorAll("[data-step]")].map((part) => [
    part,
    part.dataset.step.split(" ").map(Number),
  ]);
  const last = captions.length - 1;
  let step = last;
  let timer = 0;

  function show(next) {
    step = (next + last + 1) % (last + 1);
    for (const [part, steps] of parts) {
      part.classList.toggle("hidden", step < steps[0]);
      part.classList.toggle("now", steps.includes(step) && step > 0);
    }
    caption.textContent = captions[step];
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = "▶";
    caption.setAttribute("aria-live", "polite");
  }

  function toggle() {
    if (timer) return stop();
    caption.removeAttribute("aria-live");
    play.textContent = "❚❚";
    timer = setInterval(() => show(step + 1), 1800);
  }

  const does = {
    back: () => (stop(), show(step - 1)),
    next: () => (stop(), show(step + 1)),
    play: toggle,
  };
  const keys = { ArrowLeft: "back", ArrowRight: "next", " ": "play" };

  controls.hidden = false;
  figure.classList.add("stepped");
  controls.addEventListener("click", (event) => does[event.target.dataset.flow]?.());
  figure.addEventListener("keydown", (event) => {
    const isButton = event.target !== figure && event.key === " ";
    if (isButton || !(event.key in keys)) return;
    event.preventDefault();
    does[keys[event.key]]();
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    stop();
    show(last);
  } else {
    show(0);
    toggle();
  }
}
