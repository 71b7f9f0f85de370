// Numbers, durations and the server's clock.

import { short } from "./charts.js";

let clockOffsetMs = 0; // this clock minus the server's

/** Changes an element's text, only where it differs: what is read out is not read again. */
export function put(id, words) {
  const element = document.getElementById(id);
  if (element.textContent !== String(words)) element.textContent = words;
}

/** A number with its sign. */
export function signed(value, digits = 2) {
  const text = short(value, digits);
  return value > 0 ? `+${text}` : text;
}

/** A number to two digits after the point, without a zero below zero. */
export function cents(value) {
  const text = value.toFixed(2);
  return text === "-0.00" ? "0.00" : text;
}

/** A duration in its one or two largest units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** Takes the server's time, in seconds since 1970. */
export function setClock(seconds) {
  clockOffsetMs = Date.now() - 1000 * seconds;
}

/** Now by the server's clock, in seconds since 1970. */
export function serverNow() {
  return (Date.now() - clockOffsetMs) / 1000;
}
