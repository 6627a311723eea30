export { getNZCV, setNZCV } from './flags';
export { updateFp } from './fpstate';
export { msrImmediate, readSysreg, resetSysregs, writeSysreg } from './sysreg';
export { readCounter, timerDeadline, timerUpdate } from './timer';
export { pmuDeadline, pmuSync } from './pmu';
export {
  checkBreakpoint, checkWatchpoint, debugUpdate, exceptionReturnSS, stepActive, stepAdvance, stepPending,
} from './debug';

export { initialize, powerOn, restored, run, stepInstruction, switchTo } from './cpu';
export { selectTables, asidChanged, regionsChanged, tlbiAll, withholdWrites } from './mmu';
export { flushDecoded } from './page';
