export { getNZCV, setNZCV } from './flags';
export { updateFp } from './fpstate';
