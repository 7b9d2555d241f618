/** What runs for every pixel; in a vm context, such as a test runner's, each look-up of the global `Math` is slow. */
export const { abs, ceil, floor, hypot, imul, max, min, round, sqrt } = Math;
