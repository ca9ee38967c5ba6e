package dsn

import (
	"strings"
	"testing"
)

// TestTLSReportIsNoBounce: somebody's report of how TLS with us went speaks of
// failures, comes from a mailer, and says nothing of any mail of ours.
func TestTLSReportIsNoBounce(t *testing.T) {
	t.Parallel()
	const report = "From: Mail Delivery System <postmaster@sender.example>\r\n" +
		"Subject: Report Domain: example.com Submitter: sender.example Report-ID: <x@sender.example> delivery failure\r\n" +
		"TLS-Report-Domain: example.com\r\n" +
		"TLS-Report-Submitter: sender.example\r\n" +
		"Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\n550 sessions failed, delivery failed for <user@example.com>\r\n" +
		"--b\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\nH4sI\r\n--b--\r\n"
	if got := ReadReturn([]byte(report)); got.Outcome != Nothing || len(got.Failed) != 0 {
		t.Errorf("taken for %s: %+v", got.Outcome, got.Failed)
	}
	if got := ReadReturn([]byte(strings.Replace(report, "TLS-Report-Domain: example.com\r\n", "", 1))); got.Outcome != Failure {
		t.Errorf("without the field it is %s: the test tells nothing", got.Outcome)
	}
}
