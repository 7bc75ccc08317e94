#pragma once

// Which lock guards what, in a form that clang checks (-Wthread-safety; `./dev lint` does it) and
// other compilers do not see. The names are those of clang's documentation.
#if defined(__clang__)
#define FLINT_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define FLINT_THREAD_ANNOTATION(x)
#endif

// Of a class that is a lock, and of one that holds a lock as long as it lives.
#define FLINT_CAPABILITY(name) FLINT_THREAD_ANNOTATION(capability(name))
#define FLINT_SCOPED_CAPABILITY FLINT_THREAD_ANNOTATION(scoped_lockable)

// Of a member: its lock.
#define FLINT_GUARDED_BY(lock) FLINT_THREAD_ANNOTATION(guarded_by(lock))

// Of a function: the locks that the caller holds, must not hold, gets, gives up.
#define FLINT_REQUIRES(...) FLINT_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define FLINT_EXCLUDES(...) FLINT_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define FLINT_ACQUIRE(...) FLINT_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define FLINT_RELEASE(...) FLINT_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define FLINT_TRY_ACQUIRE(...) FLINT_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
// The lock is held when it returns, as the caller knows and clang does not.
#define FLINT_ASSERT_CAPABILITY(lock) FLINT_THREAD_ANNOTATION(assert_capability(lock))
#define FLINT_RETURN_CAPABILITY(lock) FLINT_THREAD_ANNOTATION(lock_returned(lock))

// Where the locks of a function are beyond what clang follows; a comment says why.
#define FLINT_NO_THREAD_SAFETY_ANALYSIS FLINT_THREAD_ANNOTATION(no_thread_safety_analysis)
