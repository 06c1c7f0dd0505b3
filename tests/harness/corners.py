"""Bodies in which a parser or an encoder could stumble, made by hand: JSON that looks like
none, what looks like JSON and is none, and strings that break what is careless with them.

Long digits matter: some parsers stop at some thousand of them, JSON does not.
"""

LONG = b"7" * 6_000

# JSON, whatever it looks like.
GOOD = [
    b"null", b"true", b"0", b"-0", b"-0.0", b"0e0", b"1E+2", b"1e-0002", b"0.5e1", b"123123123123123123123",
    b"1e400", b"-1e400", b"1e-400", b'""', b'"\\u0000"', b'"\\""', b'"\\/\\b\\f"', b'"\\ud83d\\ude00"',
    b'"\\uD83D\\uDE00"', b'"\\ud83d"', b'"\\ude00\\ud83d"', b'"\\ud83dx"', b'"\\ud83d\\n"', b'"\\ud83d\\\\ude00"',
    b'"\\\\ud83d"', b'"\\uffff\\ufeff"', b'"\x7f"', '"é € 😀 \u2028 \ufeff \uffff \U0010ffff"'.encode(), b'"//"',
    b'"[{"', b'"\'"', b"[]", b"{}", b"[[]]", b"[{},[]]", b'{"":{"":[]}}', b"[ \t\r\n]", b"{ \t\r\n}",
    b'{ "a" : [ 1 , 2 ] }', b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"\\u0000":0}', b'{"\\ud83d":0}',
    b'{"\\ud83d":0,"\\ude00":1}', b"[" * 100 + b"]" * 100, b'{"k":' * 100 + b"0" + b"}" * 100, LONG, b"-" + LONG,
    LONG + b".5", b"0." + LONG, b"1e" + LONG, b"1e-" + LONG, LONG + b"e-6000", b"[" + LONG + b"]",
    b"[ " + LONG + b" , 1 ]", b'{"a":' + LONG + b',"b":' + LONG + b"}", b"[" * 20 + LONG + b"]" * 20,
]

# No JSON, whatever it looks like.
BAD = [
    b"", b" ", b"nul", b"nulll", b"True", b"None", b"undefined", b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"inf",
    b"01", b"-01", b"-", b"--1", b"+1", b".5", b"5.", b"5.e1", b"1e", b"1e+", b"1.5.5", b"1e5e5", b"0x1f", b"1_000",
    b"1,5", b"1 2", "１".encode(), b"'a'", b'"', b'"\\"', b'"a', b'a"', b'"\\x41"', b'"\\u12"', b'"\\u12g4"',
    b'"\\u+123"', b'"\\U00000041"', b'"\\ud83d\\u"', b'"\\ud83d\\u00g0"', b'"\\', b'"\\a"', b'"\n"', b'"\t"',
    b'"\x00"', b'"\x1f"', b'"\xff"', b'"\xc3"', b'"\xc0\x80"', b'"\xed\xa0\xbd"', b'"\xf4\x90\x80\x80"',
    b'"\xf8\x88\x80\x80\x80"', b'"\\ud83d\xff"', b"[", b"]", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"[1:2]",
    b"[1}", b"[[]", b"[]]", b"{", b"}", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"a":1,}', b'{"a" 1}',
    b'{"a",1}', b'{"a"::1}', b'{"a":1 "b":2}', b"{a:1}", b"{1:1}", b"{null:1}", b"{'a':1}", b'{"a":1]', b'{[]:1}',
    b'{"\xff":1}', b'{"\\x":1}', b"//", b"1//", b"/**/1", b"1/**/", b"#", b"\xef\xbb\xbf1", b"\xa0" b"1",
    "\u2028".encode() + b"1", b"\x0c1", b"\x001", b"1\x00", LONG + b"x", b"0" + LONG, LONG + b".", LONG + b"e",
    LONG + b"e+", LONG + b"--", LONG + b".5.5", LONG + b"e5e5", LONG + b"-1", b"[" + LONG + b".]", b"[" + LONG,
    b"[" * 20 + LONG + b"e" + b"]" * 20,
]

# Where a value stands, and is read, kept as text, passed over, or looked at for what it may be.
PLACES = {
    "body": b"%b",
    "attribute": b'{"logs":[{"attributes":{"a":%b}}]}',
    "record": b'{"logs":[%b]}',
    "later field": b'{"logs":[{"later":%b}]}',
    "message": b'{"logs":[{"message":%b}]}',
    "level": b'{"logs":[{"level":[%b]}]}',
    "timestamp": b'{"logs":[{"timestamp":%b}]}',
    "logger": b'{"logs":[{"logger":%b}]}',
    "error": b'{"logs":[{"error":%b}]}',
    "session": b'{"logs":[{"sessionId":%b}]}',
    "run": b'{"logs":[{"active_run":%b}]}',
    "second": b'{"logs":[{"message":1,"message":%b}]}',
    "within the second": b'{"logs":[{"attributes":{"a":1,"a":[%b]}}]}',
    "deep": b'{"logs":[{"later":' + b"[" * 20 + b"%b" + b"]" * 20 + b"}]}",
    "resource": b'{"logs":[{}],"resource":%b}',
    "sent_at": b'{"logs":[{}],"sent_at":%b}',
    "passed over": b'{"extra":%b,"logs":[{}]}',
    "within what is passed over": b'{"logs":[{}],"extra":{"a":[%b]}}',
}

# These become JSON where they stand: nothing is an empty list's content, and two numbers are a list's.
WITHIN_LISTS = {"record", "level", "within the second", "deep", "within what is passed over"}
COMPLETED = (b"", b" ", b"1,5")


def bodies(place):
    """(body, whether it is JSON) of each value in a place."""
    around = PLACES[place]
    good = [(around.replace(b"%b", value), True) for value in GOOD]
    bad = [value for value in BAD if place not in WITHIN_LISTS or value not in COMPLETED]
    return good + [(around.replace(b"%b", value), False) for value in bad]


def object_of(names, value=b"1"):
    return b"{" + b",".join(b'"%b":%b' % (name, value) for name in names) + b"}"


def record(fields):
    return b'{"logs":[{%b}]}' % fields


RUN = [b"run_id", b"thread_id"]
MANY = [b"a%d" % number for number in range(1_024)]

# What the rules say of the envelope, of names and of bounds, where it is easily forgotten.
ENVELOPES = {
    "logs twice": b'{"logs":[1],"logs":[2]}',
    "logs twice, one no array": b'{"logs":[{"message":"x"}],"logs":null}',
    "logs twice, the first no array": b'{"logs":7,"logs":[{"message":"x"}]}',
    "resource twice": b'{"resource":{"a":1},"logs":[{}],"resource":{"b":1}}',
    "sent_at null, sentAt not":
        b'{"sent_at":null,"sentAt":"2026-02-06T11:00:00Z","logs":[{"timestamp":"2026-02-06T11:00:00Z"}]}',
    "a later field twice": record(b'"battery":1,"battery":2'),
    "a later field twice, null first": record(b'"battery":null,"battery":2'),
    "a name of the filter, and all names beside it": record(
        b'"attributes":' + object_of([b"client." * times + b"session.id" for times in (*range(1, 11), 0)])),
    "many attributes, then a run": record(b'"attributes":%b,"active_run":%b' % (object_of(MANY), object_of(RUN))),
    "a run, then many attributes": record(b'"active_run":%b,"attributes":%b' % (object_of(RUN), object_of(MANY))),
    "many attributes, then fields": record(
        b'"attributes":%b,"sessionId":"s","later":1,"breadcrumbs":[],"error":"E: x"' % object_of(MANY)),
    "more than many attributes": record(b'"attributes":' + object_of([*MANY, b"x", b"y"])),
    "a resource of many": b'{"resource":%b,"logs":[{}]}' % object_of([*MANY, b"one more"]),
    "a resource of too many, the service last": b'{"resource":%b,"logs":[{}]}' % object_of([*MANY, b"service.name"]),
    "a resource of many, the service last": b'{"resource":%b,"logs":[{}]}' % object_of([*MANY[1:], b"service.name"]),
    "two long names": record(b'"attributes":' + object_of([b"n" * 300 + b"1", b"n" * 300 + b"2", b"n" * 256])),
    "a long name of the filter": record(
        b'"attributes":' + object_of([b"exception." + b"n" * 246, b"exception." + b"n" * 300])),
    "long names below the run": record(b'"active_run":' + object_of([b"n" * 300 + b"1", b"n" * 300 + b"2"])),
    "many records": b'{"logs":[%b0]}' % (b"0," * 9_999),
    "too many records": b'{"logs":[%b0]}' % (b"0," * 10_000),
    "too many records, in two lists": b'{"logs":[%b0],"logs":[0]}' % (b"0," * 9_999),
    "deeper than most": record(b'"later":' + b"[" * 190 + b"]" * 190),
}

# Strings that break what is careless with them. None is longer than a name may be.
STRINGS = [
    "", " ", "\t", "\0", "a\0b", "\x01\x08\x0b\x0c\x1b\x7f", "\r\n", "\\", '"', "'", "`", "\\u0041", "\\ud83d",
    "\\\\", "/", "%s%n%x", "%00", "{}", "[]", "null", "NaN", "-1", "1e999", "0x10", "true", "undefined", "${x}",
    "{{x}}", "$(x)", "'; --", "<b>&amp;</b>", "]]>", "../..", "é", "e\u0301", "ß", "ı", "İ", "ﬀ", "\u00a0",
    "\u00ad", "\u200b", "\u200d", "\u2028\u2029", "\u202eabc\u202c", "\u2066x\u2069", "\ufeff", "\ufffd", "\ufffe",
    "\uffff", "\ufdd0", "\ue000", "\U0001f600", "\U0001f469\u200d\U0001f52c", "\U0001f1e9\U0001f1ea", "\U000e0041",
    "\U0010ffff", "你好", "السلام", "שלום", "ไทย", "한글", "Z\u0351\u036b\u0343a\u0363", "𝔘𝔫", "１２３",
    "Ω≈ç√∫", "田中さん",
    "a" * 256, "é" * 128, "\U0001f600" * 64,
]
