#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { runCli } from './cli.ts';
import { Output } from './output.ts';

// An error that nobody caught ends the process; the terminal's 'exit' handler gives the terminal back first.
process.on('uncaughtException', e => {
  const code = new Output(process.argv.includes('--json')).error(e);
  process.exit(code);
});

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};
const code = await runCli(process.argv.slice(2), { version });
// Standard input may still be open and would keep the process; standard output may have bytes to deliver.
await new Promise<void>(resolve => {
  if (process.stdout.destroyed || !process.stdout.writable) resolve();
  else {
    process.stdout.once('error', () => resolve());
    process.stdout.write('', () => resolve());
  }
});
process.exit(code);
