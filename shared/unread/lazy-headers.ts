/** Header fields by their names in lower case; several values of one name are as good as one with commas. */
export type HeaderFields = Readonly<NodeJS.Dict<string | string[]>>;

/** Headers' own, which Node's types declare as fields, and so as nothing that a class could override. */
interface HeaderMethods {
  append(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  has(name: string): boolean;
  set(name: string, value: string): void;
  getSetCookie(): string[];
  forEach(callback: (value: string, name: string, headers: Headers) => void, self?: unknown): void;
  keys(): ReturnType<Headers["keys"]>;
  values(): ReturnType<Headers["values"]>;
  entries(): ReturnType<Headers["entries"]>;
  [Symbol.iterator](): ReturnType<Headers["entries"]>;
}

const PLAIN_NAME = /^[a-z0-9-]+$/;
/** Without what Headers would strip or refuse. */
const PLAIN_VALUE = /^[\x21-\x7e]+(?: +[\x21-\x7e]+)*$/;

/**
 * Headers that are read off an object, and filled only when somebody writes to them or walks through them. For the rest
 * of the program they are what they would be if they had been filled at once.
 */
export class LazyHeaders extends (Headers as new () => HeaderMethods) {
  #fields: HeaderFields | undefined;
  #isOwn = false;

  /** @param fields are not written to; names that begin with a colon do not count */
  constructor(fields: HeaderFields) {
    super();
    this.#fields = fields;
  }

  /** The fields that they were made from, for as long as they are sure to be the same. */
  get untouched(): HeaderFields | undefined {
    return this.#isOwn ? undefined : this.#fields;
  }

  /** Those that there are by now, as long as they are known without a filling. */
  get fields(): HeaderFields | undefined {
    return this.#fields;
  }

  #fill(): void {
    const fields = this.#fields;
    if (fields === undefined) return;
    this.#fields = undefined;
    for (const name of Object.keys(fields)) {
      const value = fields[name];
      if (value === undefined || name.startsWith(":")) continue;
      if (typeof value === "string") super.append(name, value);
      else for (const item of value) super.append(name, item);
    }
  }

  override get(name: string): string | null {
    if (this.#fields !== undefined) {
      if (PLAIN_NAME.test(name)) {
        if (!Object.hasOwn(this.#fields, name)) return null;
        const value = this.#fields[name];
        if (value === undefined) return null;
        if (typeof value === "string" && !isPadded(value)) return value;
      }
      this.#fill();
    }
    return super.get(name);
  }

  override has(name: string): boolean {
    if (this.#fields !== undefined && PLAIN_NAME.test(name)) {
      return Object.hasOwn(this.#fields, name) && this.#fields[name] !== undefined;
    }
    this.#fill();
    return super.has(name);
  }

  override set(name: string, value: string): void {
    if (this.#fields !== undefined && isPlainField(name, value)) {
      this.#fields = { ...this.#fields, [name]: value };
      this.#isOwn = true;
      return;
    }
    this.#fill();
    super.set(name, value);
  }

  override append(name: string, value: string): void {
    this.#fill();
    super.append(name, value);
  }

  override delete(name: string): void {
    this.#fill();
    super.delete(name);
  }

  override getSetCookie(): string[] {
    this.#fill();
    return super.getSetCookie();
  }

  override forEach(callback: (value: string, name: string, headers: Headers) => void, self?: unknown): void {
    const pairs = plainPairs(this.#fields);
    if (pairs !== undefined && self === undefined) {
      for (const [name, value] of pairs) callback(value, name, this);
      return;
    }
    this.#fill();
    super.forEach(callback, self);
  }

  override keys() {
    this.#fill();
    return super.keys();
  }

  override values() {
    this.#fill();
    return super.values();
  }

  override entries() {
    this.#fill();
    return super.entries();
  }

  // Whoever copies headers that walk in a way of their own has to ask them.
  override [Symbol.iterator]() {
    return this.entries();
  }
}

/** What a walk comes by, in its order; undefined when Headers would make something else of it. */
function plainPairs(fields: HeaderFields | undefined): [name: string, value: string][] | undefined {
  const pairs: [string, string][] = [];
  for (const name in fields) {
    const value = fields[name];
    if (value === undefined || name.startsWith(":")) continue;
    if (!isPlainField(name, value)) return undefined;
    pairs.push([name, value]);
  }
  if (pairs.length > 1) pairs.sort(([one], [other]) => (one < other ? -1 : 1));
  return fields === undefined ? undefined : pairs;
}

/** Whether Headers would keep it as it is. (They have several of the cookies.) */
export function isPlainField(name: string, value: unknown): value is string {
  return typeof value === "string" && name !== "set-cookie" && PLAIN_NAME.test(name) && PLAIN_VALUE.test(value);
}

/** Headers strip such values. */
function isPadded(value: string): boolean {
  return value !== "" && (value.charCodeAt(0) <= 0x20 || value.charCodeAt(value.length - 1) <= 0x20);
}
