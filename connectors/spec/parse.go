package spec

// Parse reads a connector's mapping by its Spec: unknown keys are findings with
// the nearest known key as a hint, missing required ones too. Findings that are
// not warnings mean that the Values must not be used. Keys in ignore (type,
// delivery, …) belong to the caller.
func (s Spec) Parse(n Node, ignore ...string) (Values, []Finding) {
	panic("spec: Parse is being built")
}
