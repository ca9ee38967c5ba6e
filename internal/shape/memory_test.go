package shape

import (
	"testing"
	"unsafe"
)

// There is a controller for every site: what docs/shaping.md says of its size.
func TestStateIsSmall(t *testing.T) {
	t.Parallel()
	if a, b := unsafe.Sizeof(Controller{}), unsafe.Sizeof(pacer{}); a > 360 || b > 400 {
		t.Errorf("%d octets a site, %d more for one that has refused for the rate", a, b)
	}
}
