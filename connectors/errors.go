package connectors

import "errors"

// FatalError marks an error that no retry can mend: the task stops and says so.
type FatalError struct {
	Err  error
	Hint string // how to mend it
}

func (e *FatalError) Error() string { return e.Err.Error() }
func (e *FatalError) Unwrap() error { return e.Err }

// Fatal marks err as one that no retry can mend.
func Fatal(err error, hint string) error { return &FatalError{Err: err, Hint: hint} }

// IsFatal says whether err or a cause of it was marked by Fatal.
func IsFatal(err error) bool {
	var f *FatalError
	return errors.As(err, &f)
}
