// Reads JSON text with limits and finds what JSON.parse hides: duplicate keys, and depth or key counts that would hurt later.
// Called by `decode`. One scan over the bytes counts brackets and colons outside strings; JSON.parse makes the value; only when the
// counts disagree (a key is there twice) a second, slower scan finds the paths of the duplicates.

import { NetloomError } from '../../../api/errors.ts';
import { isRecord } from '../schema.ts';

/** Deepest nesting of objects and lists in a body. CustomResourceDefinitions nest about 60 deep. */
export const depthMax = 512;
/** Most object keys in one body. */
export const keyCountMax = 250_000;

/** A parsed body: `duplicates` are paths such as `spec.ports[0].port`, in text order. */
export interface ParsedText { readonly value: unknown; readonly duplicates: readonly string[] }

/** Parses one JSON document. Throws BadRequest for text that is no JSON or over a limit. Cost O(bytes). */
export function parseJson(text: string): ParsedText {
  const keyCount = scan(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new NetloomError('BadRequest', `couldn't get version/kind; json parse error: ${(error as Error).message}`, { source: 'downstream' });
  }
  const duplicates = countKeys(value) === keyCount ? [] : findDuplicates(text);
  return { value, duplicates };
}

function scan(text: string): number {
  let depth = 0;
  let colons = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x22) {
      for (index++; index < text.length; index++) {
        const inner = text.charCodeAt(index);
        if (inner === 0x5c) index++;
        else if (inner === 0x22) break;
      }
    } else if (code === 0x7b || code === 0x5b) {
      if (++depth > depthMax) throw tooMuch(`nested deeper than ${depthMax}`);
    } else if (code === 0x7d || code === 0x5d) depth--;
    else if (code === 0x3a && ++colons > keyCountMax) throw tooMuch(`more than ${keyCountMax} keys`);
  }
  return colons;
}

function tooMuch(what: string): NetloomError { return new NetloomError('BadRequest', `the body is too complex: ${what}`, { source: 'downstream' }); }

function countKeys(value: unknown): number {
  if (Array.isArray(value)) {
    let sum = 0;
    for (const item of value) sum += countKeys(item);
    return sum;
  }
  if (!isRecord(value)) return 0;
  let sum = 0;
  for (const key of Object.keys(value)) sum += 1 + countKeys(value[key]);
  return sum;
}

/** Walks valid JSON text and returns the path of each key that an object has already. */
function findDuplicates(text: string): string[] {
  const found: string[] = [];
  let at = 0;
  const skipSpace = (): void => { while (/\s/.test(text[at] ?? '')) at++; };
  const readString = (): string => {
    const start = at++;
    for (; text[at] !== '"'; at++) if (text[at] === '\\') at++;
    return JSON.parse(text.slice(start, ++at)) as string;
  };
  const readObject = (path: string): void => {
    const seen = new Set<string>();
    for (at++, skipSpace(); text[at] !== '}'; skipSpace()) {
      if (text[at] === ',') { at++; skipSpace(); }
      const key = readString();
      const inner = path === '' ? key : `${path}.${key}`;
      if (seen.has(key)) found.push(inner);
      seen.add(key);
      skipSpace();
      at++;
      readValue(inner);
    }
    at++;
  };
  const readList = (path: string): void => {
    let index = 0;
    for (at++, skipSpace(); text[at] !== ']'; skipSpace()) {
      if (text[at] === ',') at++;
      readValue(`${path}[${index++}]`);
    }
    at++;
  };
  const readValue = (path: string): void => {
    skipSpace();
    if (text[at] === '{') readObject(path);
    else if (text[at] === '[') readList(path);
    else if (text[at] === '"') readString();
    else while (at < text.length && !/[\s,\]}]/.test(text[at] ?? '')) at++;
  };
  readValue('');
  return found;
}
