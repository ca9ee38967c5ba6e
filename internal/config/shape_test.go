package config

import (
	"reflect"
	"testing"
	"time"

	"mailout/internal/shape"
)

func TestShapeRules(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(host+`
[delivery]
provider_limits = false
[[pool]]
name = "bulk"
sources = ["192.0.2.1"]
[[source]]
ip = "192.0.2.1"
[[shape]]
mx = ["*.google.com"]
connections = 20
messages_per_connection = 100
rate = "1000/h"
[[shape]]
sites = ["a=b,c", "*.test"]
domains = ["x.example", ".y.example", "*"]
providers = ["yahoo", "microsoft*"]
sources = ["192.0.2.1", "mailout.example.com"]
pools = ["default", "bulk"]
streams = ["news"]
recipients_per_message = 5
rate = ["5/s", "20000/d"]
by = ["sender", "stream", "source"]
[[shape]]
rate = "1/m"
by = []
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Delivery.ProviderLimits {
		t.Error("provider_limits")
	}
	day := 24 * time.Hour
	want := []shape.Rule{
		{MX: []string{"*.google.com"}, Connections: 20, MessagesPerConnection: 100, Rates: []shape.RateLimit{{Count: 1000, Per: time.Hour}}, By: shape.DefaultBy, Line: 10},
		{Sites: []string{"a=b,c", "*.test"}, Domains: []string{"x.example", "*.y.example", "*"}, Providers: []string{"yahoo", "microsoft*"},
			Sources: []string{"192.0.2.1", "mailout.example.com"}, Pools: []string{"default", "bulk"}, Streams: []string{"news"}, RecipientsPerMessage: 5,
			Rates: []shape.RateLimit{{Count: 5, Per: time.Second}, {Count: 20000, Per: day}}, By: shape.BySource | shape.ByStream | shape.BySender, Line: 15},
		{Rates: []shape.RateLimit{{Count: 1, Per: time.Minute}}, Line: 25},
	}
	for i, got := range c.ShapeRules() {
		for _, list := range []*[]string{&got.Sites, &got.Domains, &got.MX, &got.Providers, &got.Sources, &got.Pools, &got.Streams} {
			if len(*list) == 0 {
				*list = nil
			}
		}
		if !reflect.DeepEqual(got, want[i]) {
			t.Errorf("%d: %+v, want %+v", i, got, want[i])
		}
	}
	if _, err := shape.NewRules(c.ShapeRules()); err != nil {
		t.Error(err)
	}
}

func TestShapeErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []badFile{
		{"limits nothing", host + "[[shape]]\nmx = [\"*.example.com\"]\n", []string{
			"f:2:1: [[shape]] connections: nothing is limited (write connections, messages_per_connection, recipients_per_message or rate)"}},
		{"values", host + "[[shape]]\nmx = [\"*.Google.com\"]\ndomains = [\"a*b\"]\nrate = \"5\"\nconnections = -1\nsites = [\"\"]\nproviders = [\"gogle\"]\nby = [\"ip\"]\n", []string{
			`f:3:7: [[shape]] mx: "*.Google.com" is not a pattern of host names in lower case (write for example "mx1.example.net" or "*.example.net")`,
			`f:4:12: [[shape]] domains: "a*b" has a "*" that is not the whole first part (write "*.example.com" or "*")`,
			`f:5:8: [[shape]] rate: "5" is not a rate (write for example "1000/h"; the times are /s, /m, /h and /d)`,
			`f:6:15: [[shape]] connections: -1 is out of range (from 0 to 10000)`,
			`f:7:10: [[shape]] sites: "" is not a site (write it as "mailout explain" names it)`,
			`f:8:14: [[shape]] providers: "gogle" is no provider that is known (did you mean "google"?)`,
			`f:9:7: [[shape]] by: "ip" is not "source", "site", "provider", "domain", "stream" or "sender"`}},
		{"provider pattern", host + "[[shape]]\nproviders = [\"xx*\"]\nrate = [\"5/s\", 3]\n", []string{
			`f:3:14: [[shape]] providers: "xx*" fits no provider that is known`,
			`f:4:16: [[shape]] rate: 3 is not a rate (write for example "1000/h"; the times are /s, /m, /h and /d)`}},
		{"connections of streams", host + "[[shape]]\nstreams = [\"news\"]\nconnections = 1\n", []string{
			"f:3:11: [[shape]] streams: does not go with connections or messages_per_connection: sessions carry mail of all streams (write rate)"}},
		{"what is not there", host + "[[shape]]\nconnections = 1\npools = [\"bulk\"]\nsources = [\"192.0.2.1\"]\n", []string{
			`f:4:9: [[shape]] pools: "bulk" is no [[pool]]`,
			`f:5:11: [[shape]] sources: "192.0.2.1" is no [[source]]`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, c.text, c.want)
		})
	}
}
