import { type InspectOptions, inspect } from "node:util";

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

/** Has the prototype of Headers, and none of what each of them keeps. */
function Unfilled(): void {}
Unfilled.prototype = Object.create(Headers.prototype);

/**
 * Headers that are read off an object, and made only when somebody writes to them or walks through them. For the rest
 * of the program they are what they would be if they had been made at once.
 */
export class LazyHeaders extends (Unfilled as unknown as new () => HeaderMethods) {
  #fields: HeaderFields | undefined;
  #isOwn = false;
  #made: Headers | undefined;

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

  #fill(): Headers {
    if (this.#made !== undefined) return this.#made;
    const made = new Headers();
    const fields = this.#fields;
    this.#fields = undefined;
    this.#made = made;
    for (const name in fields) {
      const value = fields[name];
      if (value === undefined || name.startsWith(":")) continue;
      if (typeof value === "string") made.append(name, value);
      else for (const item of value) made.append(name, item);
    }
    return made;
  }

  override get(name: string): string | null {
    if (this.#fields !== undefined) {
      const value = this.#fields[name];
      if (value === undefined) {
        if (PLAIN_NAME.test(name)) return null;
      } else if (typeof value === "string" && !name.startsWith(":") && !isPadded(value)) return value;
    }
    return this.#fill().get(name);
  }

  override has(name: string): boolean {
    if (this.#fields !== undefined && PLAIN_NAME.test(name)) {
      return Object.hasOwn(this.#fields, name) && this.#fields[name] !== undefined;
    }
    return this.#fill().has(name);
  }

  override set(name: string, value: string): void {
    if (this.#fields !== undefined && isPlainField(name, value)) {
      this.#fields = { ...this.#fields, [name]: value };
      this.#isOwn = true;
      return;
    }
    this.#fill().set(name, value);
  }

  override append(name: string, value: string): void {
    this.#fill().append(name, value);
  }

  override delete(name: string): void {
    this.#fill().delete(name);
  }

  override getSetCookie(): string[] {
    return this.#fill().getSetCookie();
  }

  override forEach(callback: (value: string, name: string, headers: Headers) => void, self?: unknown): void {
    const pairs = plainPairs(this.#fields);
    if (pairs !== undefined && self === undefined) {
      for (const [name, value] of pairs) callback(value, name, this);
      return;
    }
    this.#fill().forEach((value, name) => {
      callback.call(self, value, name, this);
    });
  }

  override keys() {
    return this.#fill().keys();
  }

  override values() {
    return this.#fill().values();
  }

  override entries() {
    return this.#fill().entries();
  }

  // Whoever copies headers that walk in a way of their own has to ask them.
  override [Symbol.iterator]() {
    return this.entries();
  }

  [inspect.custom](depth: number, options: InspectOptions): string {
    return inspect(this.#fill(), { ...options, depth });
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
