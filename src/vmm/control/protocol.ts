/**
 * What is said over a control socket: one JSON object a line. A client asks `{ verb, ... }` and gets `{ value }` or `{ error }`,
 * in the order of its questions.
 */

import type { ErrorCode } from '../../util/errors.ts';
import { VmError } from '../../util/errors.ts';

/** Questions without anything else. */
const PLAIN = ['info', 'clock', 'lspci', 'stop', 'pause', 'resume', 'stats'] as const;

/** A question. */
export type ControlRequest =
  | { readonly verb: (typeof PLAIN)[number] }
  /** With `map`, the answer has a map of memory, too. */
  | { readonly verb: 'pins'; readonly map: boolean }
  | { readonly verb: 'plug'; readonly device: Readonly<Record<string, unknown>> }
  | { readonly verb: 'unplug'; readonly name: string };

/** The longest question, bytes. */
export const MAX_REQUEST = 64 * 1024;

/** An error as it travels. */
export interface ControlError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
}

export type ControlResponse = { readonly value: unknown } | { readonly error: ControlError };

/**
 * A line as a request.
 * @throws VmError ERR_USAGE for anything else.
 */
export function parseRequest(line: string): ControlRequest {
  let r: unknown;
  try {
    r = JSON.parse(line);
  } catch {
    throw new VmError('ERR_USAGE', 'control: a request is one JSON object on a line');
  }
  const { verb, device, name, map } = (typeof r === 'object' && r !== null ? r : {}) as Record<string, unknown>;
  const plain = PLAIN.find(v => v === verb);
  if (plain !== undefined) return { verb: plain };
  if (verb === 'pins') return { verb, map: map === true };
  if (verb === 'plug' && typeof device === 'object' && device !== null) {
    return { verb, device: device as Record<string, unknown> };
  }
  if (verb === 'unplug' && typeof name === 'string') return { verb, name };
  throw new VmError('ERR_USAGE', `control: no such request: ${line.slice(0, 100)}`, {
    hint: 'verbs are info, clock, lspci, pins, stats, pause, resume, stop, plug (with device) and unplug (with name)',
  });
}

/** Any thrown value as it travels. */
export function toControlError(e: unknown): ControlError {
  if (e instanceof VmError) return { code: e.code, message: e.message, hint: e.hint };
  return { code: 'ERR_INTERNAL', message: e instanceof Error ? e.message : String(e), hint: undefined };
}
