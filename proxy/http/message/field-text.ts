// Looks up, removes and adds fields in the text of a head. Off the hot path: policies, logs, sub-requests.

/** The value of the first field of that (lower-case) name in a head's text, or undefined. */
export function fieldOf(text: string, name: string): string | undefined {
  let position = text.indexOf('\r\n') + 2;
  while (position > 1 && position < text.length) {
    const end = text.indexOf('\r\n', position);
    if (end <= position) return undefined;
    if (text.charCodeAt(position + name.length) === 58 && text.slice(position, position + name.length).toLowerCase() === name) return text.slice(position + name.length + 1, end).trim();
    position = end + 2;
  }
  return undefined;
}

/** All field lines of that name (case-insensitive) taken out. */
export function withoutField(text: string, name: string): string {
  const lower = name.toLowerCase();
  const lines = text.split('\r\n');
  const kept = lines.filter((line, index) => index === 0 || line.length <= lower.length || line.charCodeAt(lower.length) !== 58 || line.slice(0, lower.length).toLowerCase() !== lower);
  return kept.length === lines.length ? text : kept.join('\r\n');
}

/** Field lines put before the empty line that ends a head. */
export function withFields(text: string, lines: string): string { return text.endsWith('\r\n\r\n') ? `${text.slice(0, -2)}${lines}\r\n` : text + lines; }

/** The value of one cookie in a Cookie field. */
export function cookieOf(cookies: string | undefined, name: string): string | undefined {
  if (cookies === undefined) return undefined;
  for (const part of cookies.split(';')) {
    const equals = part.indexOf('=');
    if (equals > 0 && part.slice(0, equals).trim() === name) return part.slice(equals + 1).trim();
  }
  return undefined;
}

/** What a field value may be when it comes from an object or another server: no control bytes. */
export function isFieldValue(text: string): boolean { return !/[^\t\x20-\x7e\x80-\xff]/.test(text); }
