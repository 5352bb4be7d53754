// Domain names as the zone and the caches hold them: a "name key" is the lower-cased wire form (length octet, label, …,
// zero octet) as a string with one character per octet, so that a dot or a zero inside a label is data and never a
// separator (RFC 2181 §11), and equality of strings is equality of names (RFC 4343).

/** Octet → octet with A–Z lower-cased; everything else as it is. */
export const lowerOctets: Uint8Array = Uint8Array.from({ length: 256 }, (_, octet) => (octet >= 65 && octet <= 90 ? octet + 32 : octet));

export const rootKey = '\0';
export const nameOctetsMax = 255;
export const labelOctetsMax = 63;

/**
 * Name key of presentation text; the final dot is optional, `\.` and `\DDD` escapes are understood (RFC 1035 §5.1).
 * Undefined when a label is empty or over 63 octets or the name over 255.
 */
export function nameKey(text: string): string | undefined {
  if (text === '' || text === '.') return rootKey;
  let key = '';
  let label = '';
  for (let index = 0; index < text.length; index++) {
    const character = text[index] ?? '';
    if (character === '.') {
      if (label === '' || label.length > labelOctetsMax) return undefined;
      key += String.fromCharCode(label.length) + label;
      label = '';
      continue;
    }
    if (character !== '\\') {
      const code = character.charCodeAt(0);
      if (code > 255) return undefined;
      label += String.fromCharCode(lowerOctets[code] ?? 0);
      continue;
    }
    const decimal = /^\d{3}/.exec(text.slice(index + 1, index + 4))?.[0];
    const code = decimal === undefined ? text.charCodeAt(index + 1) : Number(decimal);
    if (Number.isNaN(code) || code > 255) return undefined;
    label += String.fromCharCode(lowerOctets[code] ?? 0);
    index += decimal === undefined ? 1 : 3;
  }
  if (label.length > labelOctetsMax) return undefined;
  if (label !== '') key += String.fromCharCode(label.length) + label;
  return key.length + 1 > nameOctetsMax ? undefined : key + rootKey;
}

/** Presentation text of a name key with a final dot; octets outside letters, digits, `-` and `_` are escaped. */
export function nameText(key: string): string {
  if (key === rootKey) return '.';
  let text = '';
  for (let position = 0; position < key.length - 1;) {
    const length = key.charCodeAt(position);
    for (let index = position + 1; index <= position + length; index++) text += escapeOctet(key.charCodeAt(index));
    text += '.';
    position += length + 1;
  }
  return text;
}

function escapeOctet(octet: number): string {
  if (octet === 46 || octet === 92) return `\\${String.fromCharCode(octet)}`;
  return octet > 32 && octet < 127 ? String.fromCharCode(octet) : `\\${String(octet).padStart(3, '0')}`;
}

/** Labels of a name key, leftmost first, without the root. */
export function labelsOf(key: string): string[] {
  const result: string[] = [];
  for (let position = 0; position < key.length - 1;) {
    const length = key.charCodeAt(position);
    result.push(key.slice(position + 1, position + 1 + length));
    position += length + 1;
  }
  return result;
}

/** Name key with one more label in front. The label must already be lower case and at most 63 octets. */
export function prefixKey(label: string, key: string): string { return String.fromCharCode(label.length) + label + key; }

/** Name key of labels that are known to be valid, in front of `suffix`. */
export function joinKey(labels: readonly string[], suffix: string): string {
  let key = suffix;
  for (let index = labels.length - 1; index >= 0; index--) key = prefixKey(labels[index] ?? '', key);
  return key;
}

/** Whether `key` is `zone` or lies below it, looking at label borders only. */
export function isWithin(key: string, zone: string): boolean {
  let position = 0;
  while (key.length - position > zone.length) position += key.charCodeAt(position) + 1;
  return key.length - position === zone.length && key.startsWith(zone, position);
}
