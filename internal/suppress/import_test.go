package suppress

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func readAll(t *testing.T, text string) (addresses []string, entries []Entry, wrong []string) {
	t.Helper()
	r := NewReader(strings.NewReader(text), time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC))
	for {
		e, _, err := r.Read()
		var line *LineError
		switch {
		case err == nil:
			addresses, entries = append(addresses, e.Address), append(entries, e)
		case errors.As(err, &line):
			wrong = append(wrong, err.Error())
		case errors.Is(err, io.EOF):
			return addresses, entries, wrong
		default:
			return addresses, entries, append(wrong, err.Error())
		}
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text        string
		want, wrong []string
	}{
		"empty": {"\n\n", nil, nil},
		"plain": {"# dead ones\nAnn@example.com\r\n\n<bob@example.com>\nnobody\n#\ncid@example.com", []string{"ann@example.com", "bob@example.com", "cid@example.com"},
			[]string{"5: address: nobody: the"}},
		"csv": {"\xef\xbb\xbfemail,reason,expires\n\nann@example.com,complained,\n\"bob@example.com\",dead,2027-01-01T00:00:00Z\ncid@example.com,odd,\ndan@example.com,dead\neve@example.com,dead,tomorrow\nfay@exam\"ple.com,dead,\n",
			[]string{"ann@example.com", "bob@example.com"}, []string{"5: reason: ", "6: the line has 2 values, the first line 3", "7: expires: ", "8: not a line of CSV"}},
		"columns": {"address,nonsense\nann@example.com,x\n", nil, []string{`1: the column "nonsense" is not known`}},
		"none":    {"stream,reason\nnews,dead\n", nil, []string{"1: there is no column address"}},
		"json": {`{"address":"ann@example.com","reason":"unsubscribed","stream":"news"}` + "\n" + `{"address":"bob@example.com","x":1}` + "\n{\n" + `{"address":"cid@example.com"} {}` + "\n" + `{"address":"dan@example.com","hits":3,"since":"2025-01-01T00:00:00Z"}`,
			[]string{"ann@example.com", "dan@example.com"}, []string{"2: not an entry", "3: not an entry", "4: more than one"}},
		"long line": {"ann@example.com\n" + strings.Repeat("x", maxLine+5) + "\nbob@example.com\n", []string{"ann@example.com", "bob@example.com"}, []string{"2: the line has more than"}},
	} {
		got, _, wrong := readAll(t, c.text)
		if !slices.Equal(got, c.want) || len(wrong) != len(c.wrong) {
			t.Errorf("%s: %q, wrong %q", name, got, wrong)
			continue
		}
		for i := range wrong {
			if !strings.HasPrefix(wrong[i], c.wrong[i]) {
				t.Errorf("%s: %q, want %q…", name, wrong[i], c.wrong[i])
			}
		}
	}
}

// TestRowsComeBack: what is exported as CSV is imported as it was.
func TestRowsComeBack(t *testing.T) {
	t.Parallel()
	s := Suppression{Address: `"a,b"@example.com`, Stream: "news", Reason: "dead", Class: "user_unknown", Reply: `550 "no, such" user`, Since: "2026-01-01T00:00:00.000Z", Expires: "2027-01-01T00:00:00.000Z", Hits: 2, LastHit: "2026-01-02T00:00:00.000Z"}
	var b strings.Builder
	w := csv.NewWriter(&b)
	if err := w.Write(Columns); err != nil {
		t.Fatal(err)
	}
	if err := w.Write(s.Row()); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	_, entries, wrong := readAll(t, b.String())
	if len(wrong) > 0 || len(entries) != 1 || entries[0].Show() != s {
		t.Errorf("%q: %+v %q", b.String(), entries, wrong)
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{"ann@example.com\n", "address,reason\na@example.com,dead\n", `{"address":"a@example.com"}`, "#\n\n\"", "email\n\"a\nb\"\n", "{\x00\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader(strings.NewReader(text), time.Now())
		lines := strings.Count(text, "\n") + 1
		for n := 0; ; n++ {
			e, line, err := r.Read()
			if n > lines+1 || line > lines {
				t.Fatalf("line %d, entry %d of %d lines", line, n, lines)
			}
			var wrong *LineError
			if err == nil {
				again := e.Show()
				if back, err := again.Entry(time.Now()); err != nil || back.Address != e.Address {
					t.Fatalf("%+v comes back as %+v, %v", e, back, err)
				}
			} else if !errors.As(err, &wrong) {
				return
			}
		}
	})
}
