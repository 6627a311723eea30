import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { VmError } from '../util/errors.ts';

const MAX_REDIRECTS = 5;

/** Options of {@link httpGet}. */
export interface GetOptions {
  /** Ask for the bytes from here on. */
  readonly from?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Give up when nothing arrives for this long, in milliseconds. */
  readonly stallMs: number;
  /** Where http_proxy, https_proxy, all_proxy and no_proxy are looked up, in lower or upper case. */
  readonly env: NodeJS.ProcessEnv;
}

/**
 * GET with redirects and proxies. Node's own `fetch` knows no proxies before version 24, hence this.
 *
 * @returns the response, whatever its status; its body must be read or destroyed.
 * @throws VmError ERR_DOWNLOAD when no response comes, ERR_TIMEOUT when it takes too long.
 */
export async function httpGet(url: string, options: GetOptions): Promise<IncomingMessage> {
  let at = parseUrl(url);
  for (let n = 0; n <= MAX_REDIRECTS; n++) {
    const response = await once(at, options);
    const { statusCode = 0 } = response;
    const { location } = response.headers;
    if (statusCode < 300 || statusCode >= 400 || !location) return response;
    response.destroy();
    const next = parseUrl(new URL(location, at).href);
    if (at.protocol === 'https:' && next.protocol !== 'https:') {
      throw new VmError('ERR_DOWNLOAD', `${at.href} redirects to an address without encryption, ${next.href}`);
    }
    at = next;
  }
  throw new VmError('ERR_DOWNLOAD', `${url} redirects more than ${MAX_REDIRECTS} times`);
}

function parseUrl(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol === 'http:' || parsed?.protocol === 'https:') return parsed;
  throw new VmError('ERR_USAGE', `${url} is not an http or https address`, {
    hint: 'A mirror is named like https://HOST/debian.',
  });
}

async function once(url: URL, options: GetOptions): Promise<IncomingMessage> {
  const headers = { 'user-agent': 'tsvisor', ...(options.from ? { range: `bytes=${options.from}-` } : {}) };
  const proxy = proxyFor(url, options.env);
  // Plain HTTP asks the proxy for the whole address; HTTPS tunnels through it (RFC 9110, sections 7.1 and 9.3.6).
  let make: () => ClientRequest;
  if (!proxy) make = () => (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, { headers });
  else if (url.protocol === 'http:') {
    const via = { host: proxy.hostname, port: proxy.port || 80, path: url.href };
    make = () => httpRequest({ ...via, headers: { ...headers, ...proxyAuth(proxy), host: url.host } });
  } else {
    const socket = await tunnel(url, proxy, options);
    const secure = tlsConnect({ socket, servername: url.hostname });
    make = () => httpsRequest(url, { headers, agent: false, createConnection: () => secure });
  }
  return answer(make(), 'response', url, options).then(([response]) => response);
}

async function tunnel(url: URL, proxy: URL, options: GetOptions): Promise<Socket> {
  const target = `${url.hostname}:${url.port || 443}`;
  const req = httpRequest({
    host: proxy.hostname,
    port: proxy.port || 80,
    method: 'CONNECT',
    path: target,
    headers: { host: target, ...proxyAuth(proxy) },
  });
  const [response, socket] = await answer(req, 'connect', url, options);
  if (response.statusCode === 200) return socket as Socket;
  (socket as Socket).destroy();
  throw new VmError('ERR_DOWNLOAD', `the proxy ${proxy.host} refuses a tunnel to ${target}: ${response.statusCode}`);
}

/** Sends the request and waits for one event of it. */
function answer(
  req: ClientRequest,
  event: 'response' | 'connect',
  url: URL,
  { signal, stallMs }: GetOptions,
): Promise<[IncomingMessage, unknown]> {
  return new Promise((resolve, reject) => {
    const abort = () => req.destroy(signal?.reason as Error);
    const stalled = () =>
      req.destroy(
        new VmError('ERR_TIMEOUT', `${url.host} sent nothing for ${stallMs / 1000} s`, { hint: 'Try again.' }),
      );
    req.on(event, (response: IncomingMessage, socket: unknown) => {
      // An error after this one belongs to the body, whose reader sees it.
      response.on('close', () => signal?.removeEventListener('abort', abort));
      resolve([response, socket]);
    });
    req.on('error', (cause: Error) => {
      if (signal?.aborted) return reject(signal.reason as Error);
      const { code } = cause as NodeJS.ErrnoException;
      const why = cause instanceof VmError ? undefined : code || cause.message;
      reject(
        why === undefined
          ? cause
          : new VmError('ERR_DOWNLOAD', `cannot reach ${url.host}: ${why}`, {
              hint: 'Check the address, the network and the proxy settings (http_proxy, https_proxy).',
              cause,
            }),
      );
    });
    req.setTimeout(stallMs, stalled);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    req.end();
  });
}

/** The proxy for an address by the usual environment variables, or undefined. */
export function proxyFor(url: URL, env: NodeJS.ProcessEnv): URL | undefined {
  const variable = (name: string) => env[name] || env[name.toUpperCase()];
  const exempt = (variable('no_proxy') ?? '').split(/[\s,]+/).filter(s => s !== '');
  const host = url.hostname.toLowerCase();
  for (const entry of exempt) {
    const suffix = entry
      .toLowerCase()
      .replace(/^\*?\./, '')
      .replace(/:\d+$/, '');
    if (entry === '*' || host === suffix || host.endsWith(`.${suffix}`)) return undefined;
  }
  // HTTP_PROXY in capitals can be set by a CGI request's header, but nobody runs us as a CGI program.
  const value = variable(`${url.protocol.slice(0, -1)}_proxy`) ?? variable('all_proxy');
  if (!value) return undefined;
  const text = value.includes('://') ? value : `http://${value}`;
  const proxy = URL.canParse(text) ? new URL(text) : undefined;
  if (proxy?.protocol === 'http:') return proxy;
  throw new VmError('ERR_DOWNLOAD', `the proxy ${value} is not supported`, {
    hint: 'Use a proxy with an http:// address.',
  });
}

function proxyAuth(proxy: URL): Record<string, string> {
  if (!proxy.username) return {};
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(pair).toString('base64')}` };
}
