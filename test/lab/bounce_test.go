package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readBounce is what Python's email package and flufl.bounce make of a report.
const readBounce = `
import sys, email, email.policy
from flufl.bounce import all_failures
raw = open(sys.argv[1], 'rb').read()
m = email.message_from_bytes(raw, policy=email.policy.default)
assert m.get_content_type() == 'multipart/report', m.get_content_type()
parts = list(m.iter_parts())
status = parts[1]
assert status.get_content_type() == 'message/delivery-status', status.get_content_type()
for block in status.get_payload()[1:]:
    print(block['Final-Recipient'].split(';')[1].strip(), block['Action'], block['Status'])
temporary, permanent = all_failures(email.message_from_bytes(raw))
print('flufl', ','.join(sorted(a.decode() for a in permanent)))
print('auto', m['Auto-Submitted'])
print('defects', len(m.defects))
`

func TestBounceOfAnUnknownUserIsReadByOthers(t *testing.T) {
	m := lab(t)
	id := m.send(t, "sender@origin.test", "From: sender@origin.test\r\nSubject: to nobody\r\n\r\nx\r\n", "nobody.here@pf.test")
	rec := m.await(t, id, "nobody.here@pf.test", "bounced")
	file := filepath.Join(t.TempDir(), "bounce.eml")
	report := mailbox(t, "out/origin.test/sender", rec.text("report"))
	if err := os.WriteFile(file, report, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("/usr/bin/python3", "-c", readBounce, file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, report)
	}
	for _, want := range []string{"nobody.here@pf.test failed 5.1.1", "flufl nobody.here@pf.test", "auto auto-", "defects 0"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
}
