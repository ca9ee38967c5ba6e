# Verifies every signature of every file of a folder with dkimpy: a line "NAME ok" or "NAME why not".
import functools, os, sys
import dkim, dkim.dnsplug
txt = functools.lru_cache(None)(lambda name, timeout=5: dkim.dnsplug.get_txt(name, timeout))
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), 'rb') as f: message = f.read()
    verdict, signatures = 'ok', message.split(b'\r\n\r\n', 1)[0].count(b'\r\nDKIM-Signature:')
    for i in range(max(signatures, 1)):
        try:
            if not dkim.DKIM(message).verify(idx=i, dnsfunc=txt): verdict = 'the signature is wrong'
        except Exception as e: verdict = repr(e)
    print(name, verdict)
