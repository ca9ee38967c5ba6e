package dropin

import (
	"testing"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte(email("a@example.com")))
	f.Add([]byte(`[{"to":["a","b"],"attachments":[{"content":{"type":"Buffer","data":[1,2]}}]}]`))
	f.Add([]byte(`{"personalizations":[{"to":[{"email":"a@x"}],"substitutions":{"-a-":1}}],"from":{"email":"s@x"},"content":[{"type":"text/plain","value":"-a-"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		q := &request{}
		var r resendEmail
		if decode(body, &r) == nil {
			_, _ = r.message(q)
		}
		var s sendgridMail
		if decode(body, &s) == nil {
			_, _ = s.messages(q)
		}
		var p []postmarkEmail
		if decode(body, &p) == nil {
			for i := range p {
				_, _ = p[i].message(q)
			}
		}
	})
}
