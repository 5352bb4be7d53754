// An independent decoder for the tests: reads a whole message strictly to its last octet and shows records the way the
// case data writes them. Shares no code with dns/.

export interface Rr { name: string; type: string; ttl: number; data: string | { port: number; target: string; priority: number; weight: number } }
export interface Message {
  id: number; isReply: boolean; opcode: number; aa: boolean; tc: boolean; rd: boolean; ra: boolean; z: boolean; ad: boolean; cd: boolean; rcode: number;
  question: { name: string; rawName: string; type: number; class: number } | undefined;
  answers: Rr[]; authority: Rr[]; additional: Rr[];
  opt: { size: number; version: number; isDo: boolean; options: { code: number; data: Buffer }[] } | undefined;
}

const types: Record<number, string> = { 1: 'A', 2: 'NS', 5: 'CNAME', 6: 'SOA', 12: 'PTR', 16: 'TXT', 28: 'AAAA', 33: 'SRV' };
export const rcodeNumbers: Record<string, number> = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, NOTAUTH: 9, BADVERS: 16, BADCOOKIE: 23 };

/** Throws when any octet is out of place, or left over. */
export function decode(bytes: Buffer): Message {
  let position = 12;
  const flags = bytes.readUInt16BE(2);
  const readName = (): string => {
    let text = '';
    let at = position;
    let hasJumped = false;
    for (let hops = 0; ;) {
      const size = bytes.readUInt8(at);
      if (size === 0) { if (!hasJumped) position = at + 1; return text === '' ? '.' : text; }
      if (size >= 192) {
        const target = bytes.readUInt16BE(at) & 0x3fff;
        if (target >= at || ++hops > 20) throw new Error(`pointer at ${at} to ${target}`);
        if (!hasJumped) position = at + 2;
        hasJumped = true;
        at = target;
        continue;
      }
      if (size > 63) throw new Error('label type');
      const label = bytes.subarray(at + 1, at + 1 + size);
      if (label.length !== size) throw new Error('label runs out');
      text += `${label.toString('latin1').replace(/[.\\]/g, '\\$&')}.`;
      at += size + 1;
    }
  };
  let question: Message['question'];
  const questionCount = bytes.readUInt16BE(4);
  if (questionCount > 1) throw new Error('more than one question');
  if (questionCount === 1) {
    const start = position;
    const name = readName();
    question = { name: name.toLowerCase(), rawName: bytes.subarray(start, position).toString('hex'), type: bytes.readUInt16BE(position), class: bytes.readUInt16BE(position + 2) };
    position += 4;
  }
  let opt: Message['opt'];
  let extended = 0;
  const readRecords = (count: number): Rr[] => {
    const records: Rr[] = [];
    for (let index = 0; index < count; index++) {
      const name = readName();
      const type = bytes.readUInt16BE(position);
      const rrClass = bytes.readUInt16BE(position + 2);
      const ttl = bytes.readUInt32BE(position + 4);
      const size = bytes.readUInt16BE(position + 8);
      position += 10;
      const end = position + size;
      if (end > bytes.length) throw new Error('data runs out');
      if (type === 41) {
        if (opt !== undefined || name !== '.') throw new Error('bad OPT');
        extended = bytes.readUInt8(position - 6);
        const options: { code: number; data: Buffer }[] = [];
        for (let at = position; at < end;) {
          const length = bytes.readUInt16BE(at + 2);
          if (at + 4 + length > end) throw new Error('option runs out');
          options.push({ code: bytes.readUInt16BE(at), data: bytes.subarray(at + 4, at + 4 + length) });
          at += 4 + length;
        }
        opt = { size: rrClass, version: bytes.readUInt8(position - 5), isDo: (bytes.readUInt8(position - 4) & 0x80) !== 0, options };
        position = end;
        continue;
      }
      let data: Rr['data'];
      if (type === 1) data = [...bytes.subarray(position, position + 4)].join('.');
      else if (type === 28) data = formatV6(bytes.subarray(position, position + 16));
      else if (type === 16) data = bytes.subarray(position + 1, end).toString('latin1');
      else if (type === 33) {
        const [priority, weight, port] = [bytes.readUInt16BE(position), bytes.readUInt16BE(position + 2), bytes.readUInt16BE(position + 4)];
        position += 6;
        data = { port, target: readName(), priority, weight };
        if (position !== end) throw new Error('SRV data');
      } else if (type === 2 || type === 5 || type === 12) {
        data = readName();
        if (position !== end) throw new Error('name data');
      } else if (type === 6) {
        data = `${readName()} ${readName()}`;
        for (let field = 0; field < 5; field++) { data += ` ${bytes.readUInt32BE(position)}`; position += 4; }
        if (position !== end) throw new Error('SOA data');
      } else data = bytes.subarray(position, end).toString('hex');
      position = end;
      records.push({ name: name.toLowerCase(), type: types[type] ?? `TYPE${type}`, ttl, data });
    }
    return records;
  };
  const answers = readRecords(bytes.readUInt16BE(6));
  const authority = readRecords(bytes.readUInt16BE(8));
  const additional = readRecords(bytes.readUInt16BE(10));
  if (position !== bytes.length) throw new Error(`${bytes.length - position} octets left over`);
  return {
    id: bytes.readUInt16BE(0), isReply: (flags & 0x8000) !== 0, opcode: (flags >> 11) & 15, aa: (flags & 0x400) !== 0, tc: (flags & 0x200) !== 0, rd: (flags & 0x100) !== 0,
    ra: (flags & 0x80) !== 0, z: (flags & 0x40) !== 0, ad: (flags & 0x20) !== 0, cd: (flags & 0x10) !== 0, rcode: (extended << 4) | (flags & 15),
    question, answers, authority, additional, opt,
  };
}

function formatV6(bytes: Buffer): string {
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  const runs = [...groups.join(':').matchAll(/(^|:)0(:0)+(?=:|$)/g)].sort((a, b) => b[0].length - a[0].length);
  const run = runs[0];
  if (run === undefined) return groups.join(':');
  const text = groups.join(':');
  const head = text.slice(0, run.index);
  const tail = text.slice(run.index + run[0].length);
  return `${head}::${tail.replace(/^:/, '')}`;
}
