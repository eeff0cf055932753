import { createSocket } from "node:dgram";
import { once } from "node:events";

/** What it answers of one type of record: addresses (bytes), or the code of a failure (RFC 1035, 4.1.1). */
export type FakeRecords = readonly (readonly number[])[] | { readonly code: number };

export interface FakeNameServer {
  /** `host:port`. */
  readonly address: string;
  /** From now on, for every name. */
  answer(records: { readonly a: FakeRecords; readonly aaaa: FakeRecords }): void;
  close(): void;
}

export const SERVFAIL = { code: 2 };

const HEADER_BYTES = 12;
const TYPE_A = 1;
const IS_ANSWER = 0x8180;
const IN_CLASS = 1;
/** Points to the name in the question. */
const SAME_NAME = 0xc000 | HEADER_BYTES;

/** A DNS server over UDP that can fail for one type of record alone, as none does at will. */
export async function startFakeNameServer(): Promise<FakeNameServer> {
  let records: { readonly a: FakeRecords; readonly aaaa: FakeRecords } = { a: [], aaaa: [] };
  const socket = createSocket("udp4", (query, { port, address }) => {
    const nameEnd = query.indexOf(0, HEADER_BYTES);
    const type = query.readUInt16BE(nameEnd + 1);
    const found = type === TYPE_A ? records.a : records.aaaa;
    const [code, answers] = "code" in found ? [found.code, []] : [0, found];
    const header = Buffer.alloc(HEADER_BYTES);
    query.copy(header, 0, 0, 2);
    header.writeUInt16BE(IS_ANSWER | code, 2);
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(answers.length, 6);
    const parts = answers.map((bytes) => {
      const record = Buffer.alloc(12);
      record.writeUInt16BE(SAME_NAME, 0);
      record.writeUInt16BE(type, 2);
      record.writeUInt16BE(IN_CLASS, 4);
      record.writeUInt16BE(bytes.length, 10);
      return Buffer.concat([record, Buffer.from(bytes)]);
    });
    const question = query.subarray(HEADER_BYTES, nameEnd + 5);
    socket.send(Buffer.concat([header, question, ...parts]), port, address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    address: `127.0.0.1:${socket.address().port}`,
    answer(latest) {
      records = latest;
    },
    close: () => socket.close(),
  };
}
