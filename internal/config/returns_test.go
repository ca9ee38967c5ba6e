package config

import (
	"slices"
	"testing"

	"mailout/internal/suppress"
)

func TestReturnsAndSuppress(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(host+`
[suppress]
answer = "refuse"
learn = false
[returns]
domain = "Bounces.BÜCHER.example."
complaints = ["FBL@bounces.example.com"]
[[listen]]
address = "192.0.2.1:25"
returns = true
[[stream]]
name = "invoices"
suppress = ["dead", "complained"]
[[stream]]
name = "news"
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Suppress.Answer != SuppressRefuse || c.Suppress.Learn || c.Returns.Domain != "bounces.xn--bcher-kva.example" || !c.Listen[0].Returns ||
		!slices.Equal(c.Returns.Complaints, []string{"fbl@bounces.example.com"}) ||
		!slices.Equal(c.Streams[0].Suppress, []suppress.Reason{suppress.Dead, suppress.Complained}) || !slices.Equal(c.Streams[1].Suppress, suppress.Reasons) {
		t.Errorf("%+v %+v %+v", c.Suppress, c.Returns, c.Streams)
	}
}

func TestReturnsErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[returns]\ndomain = \"bounces.example.com\"\n":               `f:3:10: [returns] domain: has nobody who serves it: what comes back would be lost (write returns = true in a [[listen]] of its own)`,
		"[[listen]]\naddress = \"192.0.2.1:25\"\nreturns = true\n":    `f:4:11: [[listen]] returns: has nothing to serve (write domain in [returns])`,
		"[[stream]]\nname = \"x\"\nsuppress = [\"dead\", \"gone\"]\n": `f:4:21: [[stream]] suppress: "gone" is not "dead", "complained", "unsubscribed" or "manual"`,
		"[suppress]\nunsure = 0\n":                                    `f:3:10: [suppress] unsure: 0 is out of range (from 1 to 100)`,
	} {
		_, err := Parse("f", []byte(host+text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}
