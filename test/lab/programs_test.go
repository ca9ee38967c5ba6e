package lab

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestProgramsThatRunSendmail: what is told in docs/sendmail.md holds for the
// programs that most machines send with; none of them is told anything of
// mailout.
func TestProgramsThatRunSendmail(t *testing.T) {
	o := needOffice(t)
	patch := o.patch(t)
	for _, p := range []program{
		{name: "mailutils", args: []string{"mail.mailutils", "-n", "-r", "app@origin.test", "-s", "Grüße", "-a", "Content-Type: text/plain; charset=utf-8", "-a", "Bcc: bob@to.example", "ann@to.example"}, stdin: greeting + "\n", from: "app@origin.test"},
		{name: "bsd-mailx", args: []string{"bsd-mailx", "-n", "-I", "-s", "Grüße", "-b", "bob@to.example", "-r", "app@origin.test", "ann@to.example"}, stdin: greeting + "\n", from: "app@origin.test"},
		{name: "mutt", args: []string{"mutt", "-n", "-F", "/dev/null", "-e", "set from=app@origin.test use_envelope_from=yes copy=no realname='Die Änne'", "-s", "Grüße", "-b", "bob@to.example", "-a", patch, "--", "ann@to.example"},
			stdin: greeting + "\n", from: "app@origin.test"},
		{name: "git send-email", args: []string{"git", "send-email", "--quiet", "--confirm=never", "--no-thread", "--suppress-cc=all", "--envelope-sender=auto", "--from=Änne <anne@origin.test>", "--to=ann@to.example", "--bcc=bob@to.example", "--8bit-encoding=UTF-8", patch},
			from: "anne@origin.test"},
		{name: "PHP mail()", args: []string{"php8.2", "-n", "-r", `exit(mail("ann@to.example", "=?UTF-8?B?".base64_encode("Grüße")."?=", $argv[1], ["From"=>"app@origin.test","Bcc"=>"bob@to.example","MIME-Version"=>"1.0","Content-Type"=>"text/plain; charset=utf-8","Content-Transfer-Encoding"=>"8bit"], "-fbounce@origin.test") ? 0 : 1);`, "--", greeting},
			from: "bounce@origin.test"},
		{name: "python3", args: []string{"python3", "-c", `import subprocess, sys, email.message
m = email.message.EmailMessage()
m["From"], m["To"], m["Bcc"], m["Subject"] = "app@origin.test", "Änne <ann@to.example>", "bob@to.example", "Grüße"
m.set_content(sys.argv[1])
subprocess.run(["/usr/sbin/sendmail", "-t", "-oi", "-f", "app@origin.test"], input=m.as_bytes(), check=True)`, greeting}, from: "app@origin.test"},
	} {
		t.Run(p.name, func(t *testing.T) {
			if got := subject(t, o.run(t, p)); !strings.HasSuffix(got, "Grüße") {
				t.Errorf("subject %q", got)
			}
		})
	}
}

// patch writes a file for git send-email.
func (o *office) patch(t *testing.T) string {
	t.Helper()
	path := filepath.Join(o.home, "0001-gruesse.patch")
	text := "From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\nFrom: Änne <anne@origin.test>\nDate: Thu, 1 Jan 2026 10:00:00 +0100\nSubject: [PATCH] Grüße\n\n" + greeting + "\n---\n a | 1 +\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCron: a real cron runs a job and mails what it prints. @reboot jobs run at
// once.
func TestCron(t *testing.T) {
	o := needOffice(t)
	table, ran := filepath.Join(o.home, "crontab"), filepath.Join(o.home, "cron-ran")
	if err := os.WriteFile(table, []byte("MAILTO=ann@to.example,bob@to.example\nLANG=C.UTF-8\n@reboot root printf 'Grüße aus Zürich – 1 €\\n.dot\\n.\\nend\\n'; touch "+ran+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The job's mail is on its way when /run/crond.pid has no children left.
	const inside = `mount --bind "$1" /etc/crontab && mount -t tmpfs none /etc/cron.d && mount -t tmpfs none /var/spool/cron && mkdir /var/spool/cron/crontabs && mount -t tmpfs none /run || exit 1
cron -f & trap 'kill $!' EXIT
for i in $(seq 300); do [ -e "$2" ] && [ -z "$(ps -o pid= --ppid $!)" ] && exit 0; sleep 0.1; done; exit 1`
	m := o.run(t, program{args: []string{"sh", "-c", inside, "sh", table, ran}})
	if got := subject(t, m); !strings.HasPrefix(got, "Cron <root@") || !strings.Contains(m.Header("From"), "Cron Daemon") {
		t.Errorf("subject %q, from %q", got, m.Header("From"))
	}
}

// TestProgramsThatSignIn: each mechanism, and TLS both ways, by programs that
// check the certificate.
func TestProgramsThatSignIn(t *testing.T) {
	o := needOffice(t)
	content := "From: app@origin.test\nTo: ann@to.example\nSubject: Grüße\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + greeting + "\n"
	file := filepath.Join(o.home, "content.eml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(content, "\n", "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	patch := o.patch(t)
	var all []program
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		for flag, port := range map[string]string{"--tls": clientSTARTTLS, "--tls-on-connect": clientImplicit} {
			all = append(all, program{name: "swaks " + flag + " " + mechanism, args: []string{"swaks", flag, "--tls-verify", "--tls-ca-path", o.ca, "--server", mailoutName, "--port", port, "--helo", "app.origin.test",
				"--from", "app@origin.test", "--to", "ann@to.example,bob@to.example", "--auth", mechanism, "--auth-user", clientUser, "--auth-password", clientPassword, "--data", "@" + file}})
		}
		for scheme, port := range map[string]string{"smtp": clientSTARTTLS, "smtps": clientImplicit} {
			all = append(all, program{name: "curl " + scheme + " " + mechanism, args: []string{"curl", "--silent", "--show-error", "--ssl-reqd", "--cacert", o.ca, "--url", scheme + "://" + mailoutName + ":" + port + "/app.origin.test",
				"--user", clientUser + ":" + clientPassword, "--login-options", "AUTH=" + mechanism, "--mail-from", "app@origin.test", "--mail-rcpt", "ann@to.example", "--mail-rcpt", "bob@to.example", "--upload-file", file}})
		}
	}
	for _, mechanism := range []string{"plain", "login", "scram-sha-256"} {
		for starttls, port := range map[string]string{"on": clientSTARTTLS, "off": clientImplicit} {
			all = append(all, program{name: "msmtp " + mechanism + " starttls " + starttls, stdin: content, args: []string{"msmtp", "--file=/dev/null", "--host=" + mailoutName, "--port=" + port, "--tls=on", "--tls-starttls=" + starttls,
				"--tls-trust-file=" + o.ca, "--auth=" + mechanism, "--user=" + clientUser, "--passwordeval=echo " + clientPassword, "--from=app@origin.test", "--domain=app.origin.test", "--", "ann@to.example", "bob@to.example"}})
		}
	}
	python := `import smtplib, ssl, sys
rules = ssl.create_default_context(cafile=%q)
with %s as s:
    s.ehlo("app.origin.test")
    %s
    s.login(%q, %q)
    s.sendmail("app@origin.test", ["ann@to.example", "bob@to.example"], open(%q, "rb").read())
`
	all = append(all,
		program{name: "smtplib STARTTLS", args: []string{"python3", "-c", fmt.Sprintf(python, o.ca, fmt.Sprintf("smtplib.SMTP(%q, %s)", mailoutName, clientSTARTTLS), "s.starttls(context=rules); s.ehlo('app.origin.test')", clientUser, clientPassword, file)}},
		program{name: "smtplib TLS", args: []string{"python3", "-c", fmt.Sprintf(python, o.ca, fmt.Sprintf("smtplib.SMTP_SSL(%q, %s, context=rules)", mailoutName, clientImplicit), "", clientUser, clientPassword, file)}},
		program{name: "git send-email", args: []string{"git", "send-email", "--quiet", "--confirm=never", "--no-thread", "--suppress-cc=all", "--from=app@origin.test", "--to=ann@to.example", "--bcc=bob@to.example",
			"--smtp-server=" + mailoutName, "--smtp-server-port=" + clientSTARTTLS, "--smtp-encryption=tls", "--smtp-ssl-cert-path=" + o.ca, "--smtp-user=" + clientUser, "--smtp-pass=" + clientPassword, "--smtp-domain=app.origin.test", patch}},
		// Its SASL library chooses SCRAM-SHA-256-PLUS, for which mutt 2.2 does not
		// give it what TLS 1.3 has; it does not try another then.
		program{name: "mutt", args: []string{"mutt", "-n", "-F", "/dev/null", "-e", fmt.Sprintf("set from=app@origin.test use_envelope_from=yes copy=no smtp_authenticators='scram-sha-256:plain' smtp_url=smtp://%s@%s:%s smtp_pass=%s ssl_force_tls=yes ssl_ca_certificates_file=%s",
			clientUser, mailoutName, clientSTARTTLS, clientPassword, o.ca), "-s", "Grüße", "-c", "bob@to.example", "--", "ann@to.example"}, stdin: greeting + "\n"},
	)
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			p.from, p.with = "app@origin.test", "ESMTPSA"
			if got := subject(t, o.run(t, p)); !strings.HasSuffix(got, "Grüße") {
				t.Errorf("subject %q", got)
			}
		})
	}
}

// TestPostfixSignsIn: the satellite of docs/submission.md, by each mechanism
// that its SASL library has, and over both forms of TLS.
func TestPostfixSignsIn(t *testing.T) {
	o := needOffice(t)
	conf := state("out", "conf")
	passwords := filepath.Join(o.home, "sasl_passwd")
	var lines string
	for _, port := range []string{clientSTARTTLS, clientImplicit} {
		lines += fmt.Sprintf("[%s]:%s %s:%s\n", mailoutName, port, clientUser, clientPassword)
	}
	if err := os.WriteFile(passwords, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{
		"smtp_sasl_auth_enable": "yes", "smtp_sasl_password_maps": "texthash:" + passwords, "smtp_sasl_security_options": "noanonymous",
		"smtp_tls_CAfile": o.ca, "smtp_tls_security_level": "verify", "smtp_tls_wrappermode": "no", "smtp_sasl_mechanism_filter": "", "relayhost": "", "default_transport": "smtp",
	}
	t.Cleanup(func() {
		command(t, "postconf", append([]string{"-c", conf, "-X"}, slices.Collect(maps.Keys(settings))...)...)
	})
	for _, c := range []struct{ mechanism, port, wrapped string }{
		{"plain", clientSTARTTLS, "no"}, {"login", clientSTARTTLS, "no"}, {"scram-sha-256", clientSTARTTLS, "no"}, {"scram-sha-256", clientImplicit, "yes"},
	} {
		t.Run(c.mechanism+" "+c.port, func(t *testing.T) {
			settings["relayhost"], settings["smtp_sasl_mechanism_filter"], settings["smtp_tls_wrappermode"] = "["+mailoutName+"]:"+c.port, c.mechanism, c.wrapped
			args := []string{"-c", conf, "-e"}
			for name, value := range settings {
				args = append(args, name+"="+value)
			}
			command(t, "postconf", args...)
			command(t, "postfix", "-c", conf, "reload")
			before := len(o.mx.Messages())
			command(t, "swaks", "--server", "127.0.1.9:2525", "--from", "app@origin.test", "--to", "ann@to.example,bob@to.example", "--hide-all",
				"--data", "From: app@origin.test\nTo: ann@to.example\nSubject: by "+c.mechanism+"\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"+greeting+"\n")
			m := o.arrived(t, before, program{from: "app@origin.test", with: "ESMTPSA"})
			if got := subject(t, m); got != "by "+c.mechanism {
				t.Errorf("subject %q", got)
			}
		})
	}
}

// TestCurlSpeaksHTTP: a message as JSON, and a whole one.
func TestCurlSpeaksHTTP(t *testing.T) {
	o := needOffice(t)
	content := "From: app@origin.test\nTo: ann@to.example\nBcc: bob@to.example\nSubject: Grüße\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n" + greeting + "\n"
	fields, err := json.Marshal(map[string]any{"from": "Die Änne <app@origin.test>", "to": []string{"ann@to.example"}, "bcc": []string{"bob@to.example"}, "subject": "Grüße", "text": greeting})
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + mailoutName + ":" + clientHTTP + "/v1/messages"
	for _, p := range []program{
		{name: "JSON", stdin: string(fields), args: []string{"application/json", url}},
		{name: "message/rfc822", stdin: content, args: []string{"message/rfc822", url + "?from=app@origin.test&to=ann@to.example&to=bob@to.example"}},
	} {
		t.Run(p.name, func(t *testing.T) {
			p.args = []string{"curl", "--silent", "--show-error", "--fail-with-body", "--cacert", o.ca, "-H", "Authorization: Bearer " + o.key, "-H", "Content-Type: " + p.args[0], "--data-binary", "@-", p.args[1]}
			p.from, p.with = "app@origin.test", "HTTPS"
			if got := subject(t, o.run(t, p)); got != "Grüße" {
				t.Errorf("subject %q", got)
			}
		})
	}
}
