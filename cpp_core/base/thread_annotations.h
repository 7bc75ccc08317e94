#pragma once

// Which lock guards what, in a form that clang checks (-Wthread-safety) and other compilers do not
// see. The names are those of clang's documentation.
#if defined(__clang__)
#define FLINT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define FLINT_THREAD_ANNOTATION(x)
#endif

// Of a class that is a lock, and of one that holds a lock as long as it lives.
#define CAPABILITY(name) FLINT_THREAD_ANNOTATION(capability(name))
#define SCOPED_CAPABILITY FLINT_THREAD_ANNOTATION(scoped_lockable)

// Of a member: the lock, or of a pointer the lock of what it points to.
#define GUARDED_BY(lock) FLINT_THREAD_ANNOTATION(guarded_by(lock))
#define PT_GUARDED_BY(lock) FLINT_THREAD_ANNOTATION(pt_guarded_by(lock))
#define ACQUIRED_BEFORE(...) FLINT_THREAD_ANNOTATION(acquired_before(__VA_ARGS__))
#define ACQUIRED_AFTER(...) FLINT_THREAD_ANNOTATION(acquired_after(__VA_ARGS__))

// Of a function: the locks that the caller holds, must not hold, gets, gives up.
#define REQUIRES(...) FLINT_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define EXCLUDES(...) FLINT_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define ACQUIRE(...) FLINT_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define RELEASE(...) FLINT_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) FLINT_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define ASSERT_CAPABILITY(x) FLINT_THREAD_ANNOTATION(assert_capability(x))
#define RETURN_CAPABILITY(x) FLINT_THREAD_ANNOTATION(lock_returned(x))

// Where the locks of a function are beyond what clang follows; a comment says why.
#define NO_THREAD_SAFETY_ANALYSIS FLINT_THREAD_ANNOTATION(no_thread_safety_analysis)
