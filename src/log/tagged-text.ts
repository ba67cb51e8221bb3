/** Text in tags, shown to people as it comes: `<search> height of K2 </search>` is a line `search     height of K2`. */

const indent = 11;
/** A tag as a person would call it. */
const labels: Readonly<Record<string, string>> = { information: "documents" };
/** Characters that command a terminal: none of a model's or a document's business. */
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

export class TaggedText {
  readonly #write: (text: string) => void;
  readonly #tag: RegExp;
  readonly #longestTag: number;
  /** What has come and is not shown yet: it may begin a tag, or be white space at an end. */
  #held = "";
  #block: "none" | "empty" | "begun" = "none";

  /** @param tags - their names, such as `search` */
  constructor(tags: readonly string[], write: (text: string) => void) {
    this.#write = write;
    const names = tags.map((tag) => tag.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    this.#tag = names.length === 0 ? /(?!)/ : new RegExp(`<(/?)(${names.join("|")})>`);
    this.#longestTag = Math.max(0, ...tags.map((tag) => tag.length + 3));
  }

  /** More of the text. */
  push(text: string): void {
    this.#held += text.replace(controls, "");
    for (let tag = this.#tag.exec(this.#held); tag !== null; tag = this.#tag.exec(this.#held)) {
      const [whole, slash, name = ""] = tag;
      this.#show(this.#held.slice(0, tag.index).trimEnd());
      this.#held = this.#held.slice(tag.index + whole.length);
      this.#end();
      if (slash === "") this.#begin(name);
    }
    const open = this.#held.lastIndexOf("<");
    const whole = open < 0 || this.#held.length - open >= this.#longestTag;
    const shown = (whole ? this.#held : this.#held.slice(0, open)).trimEnd();
    this.#show(shown);
    this.#held = this.#held.slice(shown.length);
  }

  /** A whole block, such as the documents of a search. */
  block(name: string, text: string): void {
    this.flush();
    this.#begin(name);
    this.#show(text.replace(controls, "").trimEnd());
    this.#end();
  }

  /** Nothing more comes of what was begun. */
  flush(): void {
    this.#show(this.#held.trimEnd());
    this.#held = "";
    this.#end();
  }

  #begin(name: string): void {
    this.#write((labels[name] ?? name).padEnd(indent));
    this.#block = "empty";
  }

  #end(): void {
    if (this.#block !== "none") this.#write("\n");
    this.#block = "none";
  }

  #show(text: string): void {
    const shown = this.#block === "begun" ? text : text.trimStart();
    if (shown === "") return;
    if (this.#block === "none") this.#begin("");
    this.#block = "begun";
    this.#write(shown.replaceAll("\n", `\n${" ".repeat(indent)}`));
  }
}
