"""How the HTML page of a trail looks: on a phone, on a desk, on paper, in light and in dark."""

CSS = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1d2329;--soft:#5c6670;--line:#dfe3e8;
--tint:#f5f7f9;--good:#1a7f37;--warn:#8a5a00;--bad:#c4221f;--goodbg:#e6f4ea;--warnbg:#fdf3dc;--badbg:#fde8e7}
@media(prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e4e8ec;--soft:#9aa5b1;--line:#2f3740;
--tint:#1b2127;--good:#5fd07a;--warn:#e3b341;--bad:#ff7b72;--goodbg:#15301d;--warnbg:#352a10;
--badbg:#3b1918}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2rem 1.25rem 3rem;max-width:68rem;background:var(--paper);
color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
overflow-wrap:anywhere}
header{border-bottom:1px solid var(--line);padding-bottom:1rem;margin-bottom:1.25rem}
header p{margin:.15rem 0}
.kicker,.when,footer,.none,.note{color:var(--soft)}
h1{margin:.1rem 0 .3rem;font-size:1.7rem;line-height:1.2;font-weight:650}
h2{margin:2rem 0 .6rem;font-size:1.05rem;font-weight:650}
h3{margin:1rem 0 .35rem;font-size:.95rem;font-weight:600}
code,p.id{font:.87em/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Noto Sans Mono",monospace}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.badge{display:inline-block;padding:0 .5em;border-radius:1em;font-size:.82em;line-height:1.6;
border:1px solid var(--line);color:var(--soft);white-space:nowrap;vertical-align:1px}
.badge.good{background:var(--goodbg);border-color:transparent;color:var(--good)}
.badge.warn{background:var(--warnbg);border-color:transparent;color:var(--warn)}
.badge.bad{background:var(--badbg);border-color:transparent;color:var(--bad)}
dl{display:grid;grid-template-columns:minmax(8rem,max-content) 1fr;gap:.3rem 1.5rem;margin:0}
dt{color:var(--soft)}dd{margin:0;min-width:0}
table{width:100%;border-collapse:collapse;font-size:.93em}
th{text-align:left;font-weight:500;color:var(--soft);border-bottom:1px solid var(--line)}
th,td{padding:.35rem .9rem .35rem 0;vertical-align:top;min-width:5.2rem}
th,td time{white-space:nowrap}td.number,th.number{min-width:3rem}
td{border-bottom:1px solid var(--tint)}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}
td.id{min-width:9rem}
table.diff{table-layout:fixed}.diff th:first-child{width:22%}
.diff del,.diff ins{text-decoration:none;border-radius:3px;padding:0 .25em;white-space:pre-wrap}
.diff del{background:var(--badbg);color:var(--bad)}
.diff ins{background:var(--goodbg);color:var(--good)}
.diff tr.same td{color:var(--soft)}
pre{margin:.3rem 0;padding:.55rem .8rem;background:var(--tint);border-radius:6px;
white-space:pre-wrap}
footer{margin-top:2.5rem;padding-top:.8rem;border-top:1px solid var(--line);font-size:.87em}
footer p{margin:.3rem 0}
@media(max-width:40rem){body{padding:1.1rem .9rem 2rem}dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:.5rem}table,tbody,tr,td{display:block;width:100%}thead{display:none}
tr{padding:.4rem 0;border-bottom:1px solid var(--line)}
td,td.number{padding:.1rem 0;border:0;text-align:left}
td[data-label]::before{content:attr(data-label);display:inline-block;min-width:7rem;
padding-right:.6rem;color:var(--soft)}td:empty{display:none}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;
--tint:#f3f3f3;--good:#14602a;--warn:#6b4600;--bad:#a01815;--goodbg:#e6f4ea;--warnbg:#fdf3dc;--badbg:#fde8e7}
@page{size:A4;margin:16mm 15mm}body{max-width:none;padding:0;font-size:10.5pt}
.badge,.diff del,.diff ins,pre{print-color-adjust:exact;-webkit-print-color-adjust:exact}
h2,h3{break-after:avoid}tr,dt,dd,pre{break-inside:avoid}thead{display:table-header-group}}
""".strip()
"""Colours come from the reader's preference; paper is always white."""
