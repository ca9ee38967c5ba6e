package tlsrpt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseRecords(t *testing.T) {
	const mail = "mailto:tls@example.com"
	cases := map[string]struct {
		texts []string
		want  []string
	}{
		"nothing":                    {nil, nil},
		"mail":                       {[]string{"v=TLSRPTv1; rua=mailto:tls@Example.com"}, []string{mail}},
		"https":                      {[]string{"v=TLSRPTv1;rua=https://report.example.com/v1?x=1"}, []string{"https://report.example.com/v1?x=1"}},
		"space in front of the mark": {[]string{"v=TLSRPTv1 \t; rua=mailto:tls@example.com ;"}, []string{mail}},
		"two receivers":              {[]string{"v=TLSRPTv1; rua=mailto:tls@example.com , https://r.example.com/"}, []string{mail, "https://r.example.com/"}},
		"twice the same":             {[]string{"v=TLSRPTv1; rua=mailto:tls@example.com,mailto:tls@EXAMPLE.com"}, []string{mail}},
		"unknown fields":             {[]string{"v=TLSRPTv1; ext=1; rua=mailto:tls@example.com; x-y.z=a:b"}, []string{mail}},
		"what is no field":           {[]string{"v=TLSRPTv1; ;;; nothing ; rua=mailto:tls@example.com"}, []string{mail}},
		"two fields":                 {[]string{"v=TLSRPTv1; rua=mailto:a@example.com; rua=mailto:b@example.com"}, []string{"mailto:a@example.com", "mailto:b@example.com"}},
		"other records beside":       {[]string{"hello", "v=spf1 -all", "v=TLSRPTv1; rua=mailto:tls@example.com", "v=TLSRPTv10; rua=mailto:x@example.com"}, []string{mail}},
		"two records":                {[]string{"v=TLSRPTv1; rua=mailto:tls@example.com", "v=TLSRPTv1; rua=mailto:tls@example.com"}, nil},
		"two records, one empty":     {[]string{"v=TLSRPTv1; rua=mailto:tls@example.com", "v=TLSRPTv1;"}, nil},
		"another version":            {[]string{"v=TLSRPTv2; rua=mailto:tls@example.com"}, nil},
		"the version's case":         {[]string{"v=tlsrptv1; rua=mailto:tls@example.com"}, nil},
		"the field's case":           {[]string{"v=TLSRPTv1; RUA=mailto:tls@example.com"}, nil},
		"no mark":                    {[]string{"v=TLSRPTv1"}, nil},
		"no receiver":                {[]string{"v=TLSRPTv1; rua="}, nil},
		"the scheme's case":          {[]string{"v=TLSRPTv1; rua=MailTo:tls@example.com,HTTPS://r.example.com/"}, []string{mail, "https://r.example.com/"}},
		"no TLS":                     {[]string{"v=TLSRPTv1; rua=http://r.example.com/"}, nil},
		"other schemes":              {[]string{"v=TLSRPTv1; rua=ftp://r.example.com/,file:///etc/passwd,tls@example.com"}, nil},
		"encoded":                    {[]string{"v=TLSRPTv1; rua=mailto:tls%2Breports@example.com"}, []string{"mailto:tls+reports@example.com"}},
		"encoded line end":           {[]string{"v=TLSRPTv1; rua=mailto:tls%0D%0ABcc:x@example.com"}, nil},
		"encoded comma":              {[]string{"v=TLSRPTv1; rua=mailto:a@example.com%2Cb@example.com"}, nil},
		"fields of a message":        {[]string{"v=TLSRPTv1; rua=mailto:tls@example.com?bcc=x@example.com"}, []string{mail}},
		"half an escape":             {[]string{"v=TLSRPTv1; rua=mailto:tls%4@example.com"}, nil},
		"no address":                 {[]string{"v=TLSRPTv1; rua=mailto:tls,mailto:@example.com,mailto:,mailto:a@b"}, nil},
		"a route":                    {[]string{"v=TLSRPTv1; rua=mailto:a%25b.example@example.com,mailto:-rf@example.com"}, nil},
		"an address literal":         {[]string{"v=TLSRPTv1; rua=mailto:tls@[192.0.2.1]"}, nil},
		"not ASCII":                  {[]string{"v=TLSRPTv1; rua=mailto:t\u00fc@example.com,https://r\u00fc.example.com/"}, nil},
		"control characters":         {[]string{"v=TLSRPTv1; rua=https://r.example.com/\r\nHost:x"}, nil},
		"who signs in":               {[]string{"v=TLSRPTv1; rua=https://user:pass@r.example.com/"}, nil},
		"no host":                    {[]string{"v=TLSRPTv1; rua=https:///x,https:r.example.com,https://:443/"}, nil},
		"a fragment":                 {[]string{"v=TLSRPTv1; rua=https://r.example.com/x#y"}, []string{"https://r.example.com/x"}},
		"a long URI":                 {[]string{"v=TLSRPTv1; rua=https://r.example.com/" + strings.Repeat("x", maxURI) + "," + mail}, []string{mail}},
		"a huge record":              {[]string{"v=TLSRPTv1; rua=" + mail + "; x=" + strings.Repeat("y", MaxRecord)}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, target := range ParseRecords(c.texts) {
				got = append(got, target.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%q gives %q, want %q", c.texts, got, c.want)
			}
		})
	}
}

func TestRecordBounds(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("v=TLSRPTv1; rua=")
	for i := range 1000 {
		fmt.Fprintf(&b, "mailto:%d@a.example,", i)
		if b.Len() > MaxRecord-100 {
			break
		}
	}
	if got := ParseRecords([]string{b.String()}); len(got) != MaxTargets {
		t.Errorf("%d receivers of a record of %d octets, want %d", len(got), b.Len(), MaxTargets)
	}
}

func FuzzParseRecords(f *testing.F) {
	for _, s := range []string{
		"v=TLSRPTv1; rua=mailto:tls@example.com", "v=TLSRPTv1;rua=https://r.example.com/x,mailto:a%40b@example.com;x=y",
		"v=TLSRPTv1 ; rua=mailto:\"a b\"@example.com", "v=TLSRPTv1;;;rua=,,;", "v=TLSRPTv1;rua=https://[2001:db8::1]:8443/%zz", "v=TLSRPTv1; rua=mailto:%00@x.example",
	} {
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		list := ParseRecords([]string{a, b})
		if len(list) > MaxTargets {
			t.Fatalf("%d receivers", len(list))
		}
		for _, target := range list {
			if (target.Mail == "") == (target.URL == "") {
				t.Fatalf("%+v is neither or both", target)
			}
			if s := target.String(); !visible(s) && target.Mail == "" {
				t.Fatalf("%q goes into a request", s)
			}
			if strings.ContainsAny(target.Mail, "\r\n\x00") {
				t.Fatalf("%q goes into a header", target.Mail)
			}
			if target.URL != "" && !strings.HasPrefix(target.URL, "https://") {
				t.Fatalf("%q is no place for a report", target.URL)
			}
		}
	})
}
