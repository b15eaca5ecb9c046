// SPDX-License-Identifier: Apache-2.0
/*
 * Two static probes, written without sys/sdt.h: one that is always there, and one that the
 * program passes only while a tracer is attached (its semaphore is not zero).
 */
#include <stdio.h>
#include <stdlib.h>

#if defined(__x86_64__)
#define NUMBER "-4@%%edi"
#define PLACE(number) register int in_register __asm__("edi") = number
#elif defined(__aarch64__)
#define NUMBER "-4@x0"
#define PLACE(number) register int in_register __asm__("w0") = number
#endif

__attribute__((section(".probes"), used)) volatile unsigned short guarded_semaphore;

#define NOTE(name, semaphore)                                            \
	"990: nop\n"                                                      \
	".pushsection .note.stapsdt,\"\",\"note\"\n"                      \
	".balign 4\n"                                                     \
	".4byte 992f-991f, 994f-993f, 3\n"                                \
	"991: .asciz \"stapsdt\"\n"                                       \
	"992: .balign 4\n"                                                \
	"993: .8byte 990b\n"                                              \
	".8byte _.stapsdt.base\n"                                         \
	".8byte " semaphore "\n"                                          \
	".asciz \"ours\"\n"                                               \
	".asciz \"" name "\"\n"                                           \
	".asciz \"" NUMBER "\"\n"                                         \
	"994: .balign 4\n"                                                \
	".popsection\n"                                                   \
	".ifndef _.stapsdt.base\n"                                        \
	".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
	".weak _.stapsdt.base\n"                                          \
	".hidden _.stapsdt.base\n"                                        \
	"_.stapsdt.base: .space 1\n"                                      \
	".size _.stapsdt.base, 1\n"                                       \
	".popsection\n"                                                   \
	".endif\n"

__attribute__((noinline)) static void pass(int number)
{
	PLACE(number);

	__asm__ volatile(NOTE("plain", "0") : : "r"(in_register));
}

__attribute__((noinline)) static void pass_guarded(int number)
{
	PLACE(number);

	__asm__ volatile(NOTE("guarded", "guarded_semaphore") : : "r"(in_register));
}

int main(int argc, char **argv)
{
	int number = argc > 1 ? atoi(argv[1]) : 7;

	pass(number);
	if (guarded_semaphore)
		pass_guarded(number + 1);
	printf("%d\n", guarded_semaphore);
	return 0;
}
