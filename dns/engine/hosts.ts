// Names with fixed addresses from the configuration (lines like /etc/hosts), and `localhost`, which RFC 6761 §6.3 keeps
// off the network. Looked up before anything is forwarded. Called by dns/engine/slow-path.ts.

import { parseIP } from '../../api/address.ts';
import { rcodes, rrTypes } from '../wire/constants.ts';
import { negativeTemplate, type AnswerBuilder, type Template } from '../wire/builder.ts';
import { isWithin, nameKey } from '../wire/names.ts';

const ttlSeconds = 60;
const localhostKey = '\x09localhost\0';

export class HostTable {
  readonly #byName = new Map<string, Uint8Array[]>();
  readonly #byAddress = new Map<string, string[]>();

  /** Lines `address name…`; `#` starts a comment. Lines that cannot be read are left out. */
  constructor(lines: readonly string[]) {
    for (const line of lines) this.#addLine(line);
    this.#byName.set(localhostKey, [Uint8Array.of(127, 0, 0, 1), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)]);
  }

  get size(): number { return this.#byName.size; }

  /** The answer when the name (or, for `ip`, the reverse name) is in the table. */
  answer(key: string, qtype: number, ip: string | undefined, builder: AnswerBuilder): Template | undefined {
    const names = ip === undefined ? undefined : this.#byAddress.get(ip);
    const addresses = this.#byName.get(isWithin(key, localhostKey) ? localhostKey : key);
    if (names === undefined && addresses === undefined) return undefined;
    builder.begin(key);
    if (qtype === rrTypes.PTR) for (const name of names ?? []) builder.addName(key, rrTypes.PTR, ttlSeconds, name);
    for (const address of addresses ?? []) {
      if (qtype === (address.length === 4 ? rrTypes.A : rrTypes.AAAA)) builder.addAddress(key, ttlSeconds, address);
    }
    return builder.recordCount > 0 ? builder.finish() : negativeTemplate({ rcode: rcodes.NOERROR, soaStart: -1, isAuthoritative: true });
  }

  #addLine(line: string): void {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
    const bytes = parseIP(address)?.bytes;
    if (bytes === undefined) return;
    for (const name of names) {
      const key = nameKey(name);
      if (key === undefined) continue;
      const present = this.#byName.get(key);
      if (present === undefined) this.#byName.set(key, [bytes]);
      else present.push(bytes);
      const reverse = this.#byAddress.get(address);
      if (reverse === undefined) this.#byAddress.set(address, [key]);
      else reverse.push(key);
    }
  }
}
