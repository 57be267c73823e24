"""Writes chat/testdata/golden.json: what transformers makes of chat templates.

usage: python chat.py ../../../chat/testdata
"""

import json
import os
import sys

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather <at> a \"place\" & é.", "parameters": {
    "type": "object", "properties": {"place": {"type": "string", "enum": ["Z", "A"]}, "days": {"type": "integer", "default": 1.5}},
    "required": ["place"]}, "return": {"type": "number"}}}, {"type": "function", "function": {"name": "f", "parameters": {}}}]
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": {"place": "Zürich", "days": 2, "x": None}}}
CHATS = {
    "one": [{"role": "user", "content": "Hello!"}],
    "turns": [{"role": "user", "content": "  Hi there \n"}, {"role": "assistant", "content": " Hello, how <b>are</b> you? "},
              {"role": "user", "content": "Fine & you? 'quoted' \"double\" \\ 日本語 👋"}],
    "system": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Why?"},
               {"role": "assistant", "content": "<think>\nhm\n</think>\n\nBecause."}, {"role": "user", "content": "So?"}],
    "ends": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
    "wrong": [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    "empty": [{"role": "user", "content": ""}],
    "tools": [{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]},
              {"role": "tool", "content": "{\"t\": 20}", "name": "weather", "tool_call_id": "abcdefghi"},
              {"role": "assistant", "content": "It is 20."}, {"role": "user", "content": "Thanks"}],
    "parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is it? "}]}],
    "reason": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "r"}],
}

# Expressions and tags one by one, each with messages (one message) and n = 3.
SNIPPETS = [
    "{{ 'a b  c'.split() }}{{ 'a-b-c'.split('-', 1) }}", "{{ 'a-b-c'.rsplit('-', 1) }}{{ 'a b c'.rsplit(none, 1) }}",
    "{{ 'a b c'.split(none, 1) }}{{ 'a\nb\n'.splitlines() }}{{ ''.split() }}{{ ''.split(',') }}",
    "{{ [1, 2, 3][::-1] }}{{ 'abc'[-2:] }}{{ [1, 2][5:] }}{{ 'héllo'[1:-1:2] }}{{ [1,2,3,4][-3:-1] }}{{ [1,2,3][2::-1] }}",
    "{{ (-1) ** 3 }}{{ 0 ** 0 }}{{ 0 ** 5 }}{{ 2 ** -1 }}{{ -1 ** 2 }}{{ (-1) ** 7 }}{{ (-1) ** 8 }}{{ 1 ** 99 }}",
    "{{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 // 2 }} {{ 1e3 }} {{ 1/3 }} {{ 1e16 }} {{ 1e-5 }} {{ 100000.0 }} {{ -0.0 }} {{ 7 % -3 }} {{ 7.5 % -2 }}",
    "{{ n is divisibleby 3 }}{{ n is odd and n > 2 }}{{ n is not even }}{{ n is in [1, 3] }}", "{{ 1 < n < 5 }}{{ 1 < n > 5 }}",
    "{% for a, b in [(1, 2), (3, 4)] %}{{ a }}{{ b }};{% endfor %}", "{% for x in [] %}{% else %}none{% endfor %}",
    "{% set a, b = 1, 2 %}{{ a + b }}", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(b=3, a=4) }}{{ f() }}", "{{ messages | map('upper') | list if false else messages[0] }}",
    "{{ 'x' if n == 4 else 'y' if n == 3 else 'z' }}", "a\n  {%- if true %} b {%+ endif -%}\n c", "{# c #}\nx{#- d -#}  y",
    "{% raw -%}  {{ x }} {%- endraw %}", "  {% raw %}\n{% if %}\n  {% endraw %}\nz", "{{ [3, 1, 2] | sort(reverse=true) | join(',') }}",
    "{{ {'b': 1}.get('b') }}{{ {'b': 1}['b'] }}{{ {1: 2}[1.0] }}{{ {'a': 1}.a }}{{ {'items': 1}['items'] }}", "{{ '%s is %d, %.2f' % ('a', 3, 1.5) }}",
    "{{ 'it' 's' }}{{ \"a\\\"b\" }}{{ ['it\\'s', '\\n', 'é', '\\x01', '\\\\'] }}", "{{ 3.7 | int }}{{ '4' | int }}{{ 'x' | int(9) }}{{ 2.5|round }}{{ 3.456|round(2) }}{{ '1.5'|float }}",
    "{{ messages[0].nothing is defined }}{{ (x.y is defined) if x }}", "{{ 'a' in ['a'] and 'b' not in 'acd' }}{{ not n }}{{ not n == 3 }}",
    "{{ 'ab' | replace('', '-') }}{{ 'aXbX'.replace('X', '', 1) }}", "{{ ('a', 'b') }}{{ (1,) }}{{ () }}{{ [] }}{{ {} }}{{ none }}",
    "{{ 'hello world-foo (bar)'|title }}{{ \"they're bill's\".title() }}{{ 'ABC d'|capitalize }}{{ 'ÄB'.lower() }}", "{{ [1, [2, 'x'], {'k': none}]|tojson }}{{ 'é\\u2028<>&\\x7f'|tojson }}{{ 1.0|tojson }}",
    "{{ [{'a': 1}, {'a': 2}]|sum(attribute='a') }}{{ [1, 2, 3]|max }}{{ ['b', 'A']|min }}{{ [1, 1, 2]|unique|list }}{{ ['b', 'A', 'c']|sort }}",
    "{{ [0, 1, 2]|select|list }}{{ [0, 1, 2]|reject('odd')|list }}{{ [1, 2, 3]|select('>', 1)|list }}{{ [{'a': {'b': 1}}]|map(attribute='a.b')|list }}",
    "{{ {'b': 2, 'a': 1}|dictsort(by='value') }}{{ {'a': 1}|items|list }}{{ 'abc'|reverse }}{{ [1, 2]|reverse|list }}{{ 'a b c'|wordcount }}",
    "{{ 'x\ny\n\nz'|indent(2, true) }}|{{ 'x\ny'|indent('> ') }}|{{ ' x '|trim }}|{{ 'xxaxx'|trim('x') }}", "{{ true + 1 }}{{ true and 'a' }}{{ '' or 'b' }}{{ [] and 1 }}{{ 1 == true }}{{ '1' == 1 }}",
    "{{ 'a' < 'b' }}{{ [1, 2] < [1, 3] }}{{ (1, 2) == (1, 2) }}{{ [1] == (1,) }}{{ {'a': 1} == {'a': 1.0} }}{{ none == false }}",
    "{% for c in 'añb' %}{{ loop.index }}{{ c }}{{ loop.cycle('x', 'y') }}{% endfor %}", "{% for k in {'x': 1, 'y': 2} %}{{ k }}{{ loop.last }}{% endfor %}",
    "{% for i in range(5) if i is odd %}{{ i }}/{{ loop.length }} {% endfor %}", "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% set ns = namespace(a=1) %}{% for i in [1, 2] %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b is defined }}", "{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2).items()|list }}",
    "{% if n == 1 %}a{% elif n == 3 %}b{% else %}c{% endif %}\n\n  {% if true -%}  x  {%- endif %}  \n", "{{ 'abc'.upper().lower().strip('a').startswith(('b', 'x')) }}{{ 'aXb'.split('X')[1] }}{{ 'a'.join(['x', 'y']) }}",
    "{{ 'abcabc'.find('c') }}{{ 'abcabc'.count('bc') }}{{ 'abc'.isdigit() }}{{ '12'.isdigit() }}{{ 'Ab'.isupper() }}{{ 'é1'.isalnum() }}{{ 'ab'.removeprefix('a') }}",
    "{{ undefined_name }}{{ undefined_name is undefined }}{{ undefined_name|default('x') }}{{ (undefined_name or 'y') }}{{ undefined_name == none }}{{ not undefined_name }}{{ [undefined_name] }}",
    "{{ undefined_name.attribute }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ [1] + (2,) }}", "{{ 1 / 0 }}", "{{ n() }}", "{{ [].append(1) }}", "{{ 'a' < 1 }}", "{% include 'x' %}", "{{ x|nofilter }}", "{{ 'a'.nothing() }}",
    "{{ ''.__class__ }}", "{{ messages[5] }}{{ messages[5] is defined }}", "{{ messages[5].role }}", "{{ n.x }}", "{{ none.x }}", "{{ none|length }}", "{{ 5|length }}", "{{ 'é👍'|length }}{{ {}|length }}", "{% for x in 5 %}{% endfor %}", "{% for x in none %}{% endfor %}",
    "{{ 'a' ~ 1 ~ none ~ true ~ [1] ~ 1.5 }}", "{{ 2 * 'ab' }}{{ [0] * 3 }}{{ 'a' * 0 }}", "{{ 1 if n }}{{ 1 if not n }}", "{{ (1 if n) + 1 }}", "{{ n|string|length }}{{ -n|abs }}{{ -5|abs }}{{ (-5)|abs }}", "{{ 'a%sb' % 'x' }}{{ '%s' % n }}{{ '%05d|%-4s|' % (42, 'a') }}{{ '100%' }}",
    "{{ '<a href=\"x\">'|e }}{{ '<b>'|safe }}", "{{ 'a,b;c'|replace(',', ';') }}{{ 'aaa'|replace('a', 'b', 2) }}", "{{ [1,2,3]|first }}{{ []|first }}{{ 'abc'|last }}{{ [[1, 2], [3]]|map('length')|list }}{{ ['a']|map('replace', 'a', 'b')|list }}",
    "{{ messages|selectattr('role')|list|length }}{{ messages|selectattr('nope', 'defined')|list|length }}{{ messages|rejectattr('role', 'in', ['user'])|list|length }}", "\n\n{{ n }}\n\n", "  {{ n }}  \n", "{%- set a = 1 -%}\n {{ a }}\n{% set b = 2 %}\n\n{{ b }}",
]


def snippets():
    for source in SNIPPETS:
        try:
            text, _ = render_jinja_template([[{"role": "user", "content": "hi"}]], chat_template=source, n=3)
            yield {"source": source, "text": text[0]}
        except Exception as e:
            yield {"source": source, "error": str(e)}


def main(out):
    rows = []
    for name in sorted(os.listdir(os.path.join(out, "templates"))):
        with open(os.path.join(out, "templates", name), encoding="utf-8") as f:
            template = f.read()
        for chat, messages in CHATS.items():
            for prompt in (False, True):
                for extra in ({}, {"tools": TOOLS}, {"enable_thinking": False, "date_string": "1 Jan 2024"}):
                    if extra.get("enable_thinking") is not None and "thinking" not in template and "date_string" not in template:
                        continue
                    if "date_string" in template and "date_string" not in extra:
                        extra = {**extra, "date_string": "2 Feb 2025"}
                    if extra.get("tools") and "tools" not in template:
                        continue
                    row = {"template": name, "chat": chat, "prompt": prompt, "extra": extra}
                    try:
                        text, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt,
                                                        bos_token="<s>", eos_token="</s>", **{"tools": None, **extra})
                        row["text"] = text[0]
                    except Exception as e:
                        row["error"] = str(e)
                    rows.append(row)
    with open(os.path.join(out, "golden.json"), "w", encoding="utf-8") as f:
        json.dump({"recorded": {"versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
                                "command": "python chat.py ../../../chat/testdata"}, "chats": CHATS, "snippets": list(snippets()), "rows": rows},
                  f, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    main(sys.argv[1])
