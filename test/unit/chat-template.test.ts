import { describe, expect, it } from "vitest";
import { ChatTemplate } from "../../src/text/chat-template.ts";
import { ConfigError } from "../../src/util/errors.ts";

const messages = [{ role: "user", content: "h\u00e9 'i'\n\u200b\u3000\u{1f600}\x7f" }] as const;

describe("a chat template prints", () => {
  // Worked out by Jinja2 3.1.6, in the environment of transformers 5.18, with tools and documents None.
  it.each([
    ["{{ true }} {{ none }} {{ False }}", "True None False"],
    ["{{ tools }}|{{ documents }}|{{ nothing }}", "None|None|"],
    ["{% if tools is not none %}tools{% else %}none{% endif %}", "none"],
    ["{% if tools is defined %}d{% endif %}", "d"],
    [
      "{{ 1 }} {{ 1.0 }} {{ 0.00001 }} {{ -0.5 }} {{ 3 / 2 }} {{ 100000.0 * 100000 }} {{ 123456789.0 * 1000000000 }}",
      "1 1.0 1e-05 -0.5 1.5 10000000000.0 1.23456789e+17",
    ],
    ["{{ 'a' ~ true ~ none ~ 1 ~ 1.0 ~ nothing }}", "aTrueNone11.0"],
    ["{{ true | string }}{{ none | string }}{{ [1, 'x'] | string }}", "TrueNone[1, 'x']"],
    ["{{ [true, none, 1.0, 'x', [1]] | join(', ') }}|{{ [true, none] | join }}", "True, None, 1.0, x, [1]|TrueNone"],
    [
      '{{ [\'a\', "it\'s", \'say "x"\', "both \' and \\"", true, none, 1.0] }}',
      "['a', \"it's\", 'say \"x\"', 'both \\' and \"', True, None, 1.0]",
    ],
    ["{{ {'a': {'b': [true]}, 'c': none} }}", "{'a': {'b': [True]}, 'c': None}"],
    ["{{ messages }}", "[{'role': 'user', 'content': \"h\u00e9 'i'\\n\\u200b\\u3000\ud83d\ude00\\x7f\"}]"],
    ["{{ messages[0] }}", "{'role': 'user', 'content': \"h\u00e9 'i'\\n\\u200b\\u3000\ud83d\ude00\\x7f\"}"],
    ["{% for m in messages %}{{ m.content }}{{ loop.first }}{% endfor %}", "h\u00e9 'i'\n\u200b\u3000\ud83d\ude00\u007fTrue"],
    ["{% macro f(x) %}{{ x }}{{ x is none }}{% endmacro %}{{ f(none) }}{{ f(true) }}", "NoneTrueTrueFalse"],
    ["{% set x %}{{ true }}{% endset %}[{{ x }}]", "[True]"],
    ["{{ messages[0].get('missing') }}", "None"],
    ["{{ 'x' if false }}", ""],
    ["{{ messages[0].missing }}", ""],
    ["{{ ('a', 1) }}", "('a', 1)"],
    ["{% set ns = namespace(a=false) %}{{ ns.a }}{% set ns.a = true %}{{ ns.a }}", "FalseTrue"],
    ["{{ tools | tojson }}{{ [true, none] | tojson }}", "null[true, null]"],
    ["{{ 'a' + 'b' + 'c' + 'd' + 'e' }}{{ [1] + [2] }}", "abcde[1, 2]"],
    ["{% if true %}{{ true }}{% elif none %}{% else %}{{ none }}{% endif %}{% if false %}{% else %}{{ none }}{% endif %}", "TrueNone"],
    ["{% for x in [] %}{% else %}{{ none }}{% endfor %}", "None"],
    ["{{ true and none }}|{{ not true }}|{{ 1 == 1 }}|{{ 'a' in 'abc' }}", "None|False|True|True"],
  ])("what Jinja2 prints: %s", (source, expected) => {
    expect(new ChatTemplate(source).render(messages)).toBe(expected);
  });

  it("nothing where Jinja2 refuses, but one error", () => {
    for (const source of ["{{ 'a' + true }}", "{{ 1 + 'a' }}", "{{ 'a' + none }}"])
      expect(() => new ChatTemplate(source).render(messages)).toThrow(/chat template cannot be rendered/);
    expect(() => new ChatTemplate("{{ range }}").render(messages)).toThrow(/a function is printed, which looks otherwise in Jinja2/);
  });

  it("tools and documents that are given", () => {
    const template = new ChatTemplate("{% if tools is not none %}{{ tools | length }}{% endif %}{{ documents }}");
    expect(template.render(messages, { tools: [{ name: "a" }] })).toBe("1None");
    expect(template.render(messages, { documents: [{ title: "t" }] })).toBe("[{'title': 't'}]");
  });
});

describe("a chat template that uses what the library lacks", () => {
  it.each([
    ["{% do messages.append(1) %}", /does not parse/],
    ["{{ messages | groupby('role') }}", /cannot be rendered \(Unknown ArrayValue filter: groupby\)/],
  ])("is refused with what is supported: %s", (source, message) => {
    const act = (): string => new ChatTemplate(source, {}, "some/model").render(messages);
    expect(act).toThrow(ConfigError);
    expect(act).toThrow(message);
    expect(act).toThrow(/some\/model.*Llama 2 and 3, Qwen2, Qwen2.5 and Qwen3/s);
  });
});
