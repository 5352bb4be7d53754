// Reads the scalar forms of the API that JSON has no type for: quantities, times, base64. Each returns the canonical text that
// the API server stores, or undefined when the text is not of the form. Called by `typed`. No state.
// Source: apimachinery pkg/api/resource, pkg/apis/meta/v1 time.go and micro_time.go.

const quantityForm = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?$/;
const decimalSuffixes = ['n', 'u', 'm', '', 'k', 'M', 'G', 'T', 'P', 'E'];
const binarySuffixes = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
const nanoPerUnit = 1_000_000_000n;

/** `0.5` → `500m`, `1024Mi` → `1Gi`; undefined for text that is no quantity. Below a nano the value is rounded up. */
export function canonicalQuantity(text: string): string | undefined {
  const nanos = quantityNanos(text);
  if (nanos === undefined) return undefined;
  const exponent = /[eE][+-]?\d+$/.test(text) && !/[0-9.]E$/.test(text);
  const isSmall = nanos > -1024n * nanoPerUnit && nanos < 1024n * nanoPerUnit;
  if (text.endsWith('i') && !isSmall && nanos % nanoPerUnit === 0n) return withSuffix(nanos / nanoPerUnit, 1024n, binarySuffixes, 0);
  if (!exponent) return withSuffix(nanos, 1000n, decimalSuffixes, 0);
  const mantissa = withSuffix(nanos, 1000n, decimalSuffixes.map((_, index) => `e${(index - 3) * 3}`), 0);
  return mantissa.replace(/e0$/, '');
}

/** The value of a quantity in nano units, undefined for text that is no quantity. */
export function quantityNanos(text: string): bigint | undefined {
  const parts = quantityForm.exec(text);
  if (parts === null || text.length > 64) return undefined;
  const [, sign, digits = '0', suffix = '', exponent] = parts;
  const [whole = '', fraction = ''] = digits.split('.');
  let factor = nanoPerUnit;
  let divisor = 10n ** BigInt(fraction.length);
  if (exponent !== undefined) {
    const power = Number(exponent);
    if (Math.abs(power) > 30) return undefined;
    if (power >= 0) factor *= 10n ** BigInt(power); else divisor *= 10n ** BigInt(-power);
  } else if (suffix.endsWith('i')) factor *= 1024n ** BigInt(binarySuffixes.indexOf(suffix));
  else factor = 1000n ** BigInt(decimalSuffixes.indexOf(suffix));
  const scaled = BigInt(`${whole}${fraction}` === '' ? '0' : `${whole}${fraction}`) * factor;
  const rounded = (scaled + divisor - 1n) / divisor;
  return sign === '-' ? -rounded : rounded;
}

function withSuffix(value: bigint, base: bigint, suffixes: readonly string[], start: number): string {
  if (value === 0n) return '0';
  let index = start;
  while (index < suffixes.length - 1 && value % base === 0n) { value /= base; index++; }
  return `${value}${suffixes[index]}`;
}

const timeForm = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)$/;

/** RFC 3339 → UTC with `fractionDigits` (0 for Time, 6 for MicroTime); undefined for anything else. */
export function canonicalTime(text: string, fractionDigits: 0 | 6): string | undefined {
  const parts = timeForm.exec(text);
  if (parts === null) return undefined;
  const [, year, month, day, hour, minute, second, fraction = '', zone = 'Z'] = parts;
  const whole = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const ms = Date.parse(`${whole}.000${zone}`);
  const local = Date.parse(`${whole}.000Z`);
  if (Number.isNaN(ms) || new Date(local).toISOString().slice(0, 19) !== whole) return undefined;
  const base = new Date(ms).toISOString().slice(0, 19);
  return fractionDigits === 0 ? `${base}Z` : `${base}.${fraction.padEnd(6, '0').slice(0, 6)}Z`;
}

/** True for standard base64 with padding (line breaks allowed), the only form that Go's decoder takes. */
export function isBase64(text: string): boolean {
  const bare = /[\r\n]/.test(text) ? text.replaceAll(/[\r\n]/g, '') : text;
  return bare.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(bare);
}

/** Bytes behind base64 text of the form above, without decoding it. */
export function base64ByteLength(text: string): number {
  const bare = text.replaceAll(/[\r\n]/g, '');
  return bare.length / 4 * 3 - (bare.endsWith('==') ? 2 : bare.endsWith('=') ? 1 : 0);
}
