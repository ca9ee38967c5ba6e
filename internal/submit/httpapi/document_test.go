package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/rest"
)

// documented gives a schema of the OpenAPI document.
func documented(t *testing.T, api huma.API, path, kind string) *huma.Schema {
	t.Helper()
	op := api.OpenAPI().Paths[path].Post
	s := op.RequestBody.Content[kind].Schema
	for s.Ref != "" {
		s = api.OpenAPI().Components.Schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// TestTheDocumentSaysWhatIsRead: the members in the OpenAPI document are those
// that the decoder knows, and its examples are taken.
func TestTheDocumentSaysWhatIsRead(t *testing.T) {
	t.Parallel()
	api := rest.New(http.NewServeMux(), "")
	Register(api, NewSender(Options{Intake: &swallow{}}))
	if _, err := json.Marshal(api.OpenAPI()); err != nil {
		t.Fatal(err)
	}
	message := documented(t, api, "/v1/messages", typeJSON)
	if have := names(message.Properties); !slices.Equal(have, memberNames) {
		t.Errorf("documented are %v, read are %v", have, memberNames)
	}
	batch := documented(t, api, "/v1/messages/batch", typeJSON)
	want := slices.DeleteFunc(slices.Concat(batchMembers, memberNames), func(n string) bool { return slices.Contains([]string{"to", "cc", "bcc", "raw"}, n) })
	slices.Sort(want)
	if have := names(batch.Properties); !slices.Equal(have, want) {
		t.Errorf("documented are %v, read are %v", have, want)
	}
	for _, path := range []string{"/v1/messages", "/v1/messages/batch"} {
		op := api.OpenAPI().Paths[path].Post
		for _, status := range []string{"202", "400", "401", "403", "409", "413", "415", "422", "429", "503"} {
			if op.Responses[status] == nil {
				t.Errorf("%s: %s is not documented", path, status)
			}
		}
	}
	// A message of the examples.
	example := map[string]any{"from": "Ann <ann@example.com>"}
	for name, p := range message.Properties {
		if len(p.Examples) > 0 && name != "raw" {
			example[name] = p.Examples[0]
		}
	}
	delete(example, "send_at") // it is over
	body, err := json.Marshal(example)
	if err != nil {
		t.Fatal(err)
	}
	if d := newDoor(t); len(example) < 8 {
		t.Errorf("few examples: %s", body)
	} else {
		d.accepted(ask{body: string(body)})
	}
	for _, p := range []*huma.Schema{message, batch} {
		if p.AdditionalProperties != false || strings.Contains(p.Description, "Body") {
			t.Errorf("%v, %s", p.AdditionalProperties, p.Description)
		}
	}
}
