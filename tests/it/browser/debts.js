// What a page owes whoever looks at it, and has not paid: each list is empty on a good page.
const width = arguments[0];
const brief = (element) => element.outerHTML.replace(/\s+/g, ' ').slice(0, 160);
const all = (css) => [...document.querySelectorAll(css)];
const shown = (element) => element.checkVisibility() && !element.closest('.visually-hidden, .skip');

const pixel = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgba = (colour) => {
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = colour;
  pixel.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
  return { parts: [r, g, b], alpha: a / 255 };
};
const over = (top, below) => top.parts.map((part, i) => part * top.alpha + below[i] * (1 - top.alpha));
const behind = (element) => {
  if (!element) return [255, 255, 255];
  const own = rgba(getComputedStyle(element).backgroundColor);
  return own.alpha === 1 ? own.parts : over(own, behind(element.parentElement));
};
const light = (parts) => {
  const [r, g, b] = parts.map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (element) => {
  const ground = behind(element);
  const [a, b] = [light(over(rgba(getComputedStyle(element).color), ground)), light(ground)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
};
const says = (element) => [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
const named = (element) =>
  [...(element.labels ?? [])].some((label) => label.textContent.trim()) ||
  element.ariaLabel || element.textContent.trim() || element.querySelector('img[alt]:not([alt=""])');

const ids = all('[id]').map((element) => element.id);
return {
  headings: all('h1').length === 1 ? [] : all('h1').map(brief).concat('there must be exactly one h1'),
  title: document.title.trim() && document.documentElement.lang ? [] : ['no title or no language'],
  wide: document.documentElement.scrollWidth <= width ? [] :
    [`${document.documentElement.scrollWidth} px`].concat(
      all('body *').filter((element) => shown(element) && element.getBoundingClientRect().right > width + 1).map(brief)),
  foreign: performance.getEntriesByType('resource').map((entry) => entry.name)
    .filter((name) => !name.startsWith(`${location.origin}/`)),
  nameless: all('input:not([type=hidden]), textarea, select, button, a[href]').filter((element) => !named(element)).map(brief),
  twins: ids.filter((id, i) => ids.indexOf(id) !== i),
  dangling: all('[aria-describedby], [aria-labelledby]').flatMap((element) =>
    `${element.getAttribute('aria-describedby') ?? ''} ${element.getAttribute('aria-labelledby') ?? ''}`.split(/\s+/)
      .filter((id) => id && !document.getElementById(id))),
  faint: all('body *').filter((element) => shown(element) && says(element) && contrast(element) < 4.5)
    .map((element) => `${contrast(element).toFixed(2)}: ${brief(element)}`),
  tiny: all('button, .btn, input:not([type=hidden], [type=radio], [type=checkbox]), select, textarea')
    .filter((element) => shown(element) && element.getBoundingClientRect().height < 24).map(brief),
};
