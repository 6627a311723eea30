import { type Command, Option } from 'commander';
import { OPTION_NAMES, OPTIONS, type VmOptions } from '../vmm/index.ts';

/** Values of VM flags as the user gave them, still to be checked by the library. */
export type FlagValues = Partial<Record<keyof VmOptions, string>>;

/** Gives a verb the flags of VM options, all of them but `without`. */
export function addVmFlags(command: Command, without: readonly (keyof VmOptions)[] = []): Command {
  for (const name of OPTION_NAMES) {
    if (without.includes(name)) continue;
    const { short, value, description, kind } = OPTIONS[name];
    const letter = short === undefined ? '' : `-${short}, `;
    // The library's name in the command line's spelling; commander gives it back in the library's.
    const long = name.replace(/[A-Z]/g, c => `-${c.toLowerCase()}`);
    const flag = kind === 'off' ? `--no-${long}` : `${letter}--${long}${kind === 'flag' ? '' : ` <${value}>`}`;
    const option = new Option(flag, description);
    if (kind === 'repeat') option.argParser((text, list: readonly string[] | undefined) => [...(list ?? []), text]);
    command.addOption(option);
  }
  return command.addOption(new Option('--json', 'events and errors as JSON lines on stderr'));
}

/**
 * The VM options in a verb's flags. Only the form changes here: text that is no number stays text, for the library to
 * refuse in its own words.
 */
export function flagsToOptions(flags: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const name of OPTION_NAMES) {
    const text = flags[name];
    const meta = OPTIONS[name];
    // Commander says true where --no-NAME is not given: that is nobody's wish, and a configuration file may have another.
    if (meta.kind === 'off' && text === true) continue;
    if (typeof text === 'boolean' || Array.isArray(text)) options[name] = text;
    if (typeof text !== 'string') continue;
    if (meta.kind === 'number') options[name] = /^\d+$/.test(text) ? Number(text) : text;
    else if (meta.kind === 'list') options[name] = text.split(',').filter(t => t !== '');
    else options[name] = text;
  }
  if (options.console === 'tty') options.console = 'stream';
  return options;
}
