package mta

import (
	"encoding/json"
	"testing"
)

// TestKeyNames: a list in JSON, and nothing where there is none.
func TestKeyNames(t *testing.T) {
	t.Parallel()
	for names, want := range map[KeyNames]string{
		"": `{}`, "a._domainkey.x": `{"k":["a._domainkey.x"]}`, "a._domainkey.x b._domainkey.y": `{"k":["a._domainkey.x","b._domainkey.y"]}`,
	} {
		type holder struct {
			K KeyNames `json:"k,omitempty"`
		}
		got, err := json.Marshal(holder{names})
		if err != nil || string(got) != want {
			t.Errorf("%q: %s, %v", names, got, err)
		}
		var back holder
		if err := json.Unmarshal(got, &back); err != nil || back.K != names {
			t.Errorf("%s: %q, %v", got, back.K, err)
		}
	}
	if json.Unmarshal([]byte(`{"k":"a"}`), &struct{ K KeyNames }{}) == nil {
		t.Error("no list was taken")
	}
}
