import { type CliOptions, runCli } from './cli.ts';
import { Output } from './output.ts';

/** Runs this process's command line and ends the process with its exit code. */
export async function runProcess(options: CliOptions): Promise<never> {
  // An error that nobody caught ends the process; the terminal's 'exit' handler gives the terminal back first.
  process.on('uncaughtException', e => {
    process.exit(new Output(process.argv.includes('--json')).error(e));
  });
  // A reader that has gone away is not an error: `tsvisor doctor | head`. While a guest runs, terminal.ts sees it too.
  process.stdout.on('error', () => undefined);
  process.stderr.on('error', () => undefined);
  const code = await runCli(process.argv.slice(2), options);
  // Standard input may still be open and would keep the process; standard output may have bytes to deliver.
  await new Promise<void>(resolve => {
    if (process.stdout.writable) process.stdout.write('', () => resolve());
    else resolve();
  });
  process.exit(code);
}
