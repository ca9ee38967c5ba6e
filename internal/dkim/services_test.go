package dkim

import "testing"

// TestRecordsServeReports: our records name no service, which means all of them
// (RFC 6376 3.6.1), TLS reports (RFC 8460 3) among them.
func TestRecordsServeReports(t *testing.T) {
	t.Parallel()
	key, err := Generate(Ed25519, 0)
	if err != nil {
		t.Fatal(err)
	}
	record, err := ParseRecord(key.TXT())
	if err != nil || len(record.Services) != 0 {
		t.Errorf("%q serves %v: %v", key.TXT(), record.Services, err)
	}
}
