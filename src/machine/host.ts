/** What the host offers, for those above the machine. */
export { type HostProbe, probeHost } from '../engines/host/probe.ts';
