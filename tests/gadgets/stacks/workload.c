/* A system call from a function with a name, until it is told to end. */
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC optimize("no-omit-frame-pointer", "no-optimize-sibling-calls")

/* The instruction itself, as a library's function keeps no frame pointer. */
__attribute__((noinline)) long asks_for_its_group(void)
{
	long result;

#if defined(__x86_64__)
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getpgid), "D"(0) : "rcx", "r11", "memory");
#else
	register long number __asm__("x8") = SYS_getpgid;
	register long zero __asm__("x0") = 0;

	__asm__ volatile("svc 0" : "+r"(zero) : "r"(number) : "memory");
	result = zero;
#endif
	return result;
}

__attribute__((noinline)) long calls_what_asks(void)
{
	return asks_for_its_group() + 1;
}

int main(void)
{
	puts("ready");
	fflush(stdout);
	for (;;) {
		if (calls_what_asks() < 0)
			return 1;
		usleep(20000);
	}
}
