// Structured log lines: one constant lower-case message, values as fields with fixed names (service, endpoint, ip,
// port, durationMs, err). With api/ and cli/ it is the only place that writes to the terminal.
// `error` = a person must act, `warn` = degraded but served, `info` = life cycle, `debug` = per object.

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type LogFields = Record<string, unknown>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A log that adds these fields to every line. */
  with(fields: LogFields): Log;
  readonly level: LogLevel;
}

export interface LogOptions { level?: LogLevel; format?: 'text' | 'json'; write?: (line: string) => void; now?: () => number }

const ranks: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** Makes a log that writes to stderr unless `write` is given; control bytes in values are escaped. */
export function createLog(options: LogOptions = {}, fields: LogFields = {}): Log {
  const level = options.level ?? 'info';
  const write = options.write ?? ((line: string): void => { process.stderr.write(line); });
  const now = options.now ?? Date.now;
  const emit = (lineLevel: LogLevel, message: string, more?: LogFields): void => {
    if (ranks[lineLevel] < ranks[level]) return;
    const all = { ...fields, ...more };
    write(options.format === 'json' ? jsonLine(lineLevel, message, all, now()) : textLine(lineLevel, message, all));
  };
  return {
    level,
    debug: (message, more) => emit('debug', message, more),
    info: (message, more) => emit('info', message, more),
    warn: (message, more) => emit('warn', message, more),
    error: (message, more) => emit('error', message, more),
    with: (more) => createLog(options, { ...fields, ...more }),
  };
}

/** A log that drops everything: the default of library entry points and tests. */
export const silentLog: Log = createLog({ level: 'error', write: () => {} });

function jsonLine(level: LogLevel, message: string, fields: LogFields, now: number): string {
  const plain: LogFields = {};
  for (const [key, value] of Object.entries(fields)) plain[key] = value instanceof Error ? describeError(value) : value;
  return `${JSON.stringify({ time: new Date(now).toISOString(), level, message, ...plain })}\n`;
}

const marks: Record<LogLevel, string> = { debug: '..', info: 'ok', warn: '!!', error: 'xx' };

function textLine(level: LogLevel, message: string, fields: LogFields): string {
  let line = `${marks[level]}  ${message}`;
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    const text = value instanceof Error ? describeError(value) : typeof value === 'string' ? value : JSON.stringify(value);
    line += ` ${key}=${/^[\w.:/@%+,-]+$/.test(text) ? text : JSON.stringify(text)}`;
  }
  return `${line}\n`;
}

function describeError(error: Error): string {
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && !error.message.includes(code) ? `${code}: ${error.message}` : error.message;
}
