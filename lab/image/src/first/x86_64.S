# A clone's first words, see first.rs: standard input is a struct timespec and a struct rand_pool_info, descriptor 3 is /dev/urandom.
# Exit status: 0, or 1 nothing to read, 2 the clock was not set, 3 nothing was mixed in, 4 the generator was not reseeded.
.globl _start
_start:
	sub $64, %rsp
	mov $1, %r12d
	xor %eax, %eax			# read(0, buffer, 56)
	xor %edi, %edi
	mov %rsp, %rsi
	mov $56, %edx
	syscall
	cmp $56, %rax
	jne end
	inc %r12d
	mov $227, %eax			# clock_settime(CLOCK_REALTIME, buffer)
	xor %edi, %edi
	mov %rsp, %rsi
	syscall
	test %rax, %rax
	jnz end
	inc %r12d
	mov $16, %eax			# ioctl(3, RNDADDENTROPY, buffer + 16)
	mov $3, %edi
	mov $0x40085203, %esi
	lea 16(%rsp), %rdx
	syscall
	test %rax, %rax
	jnz end
	inc %r12d
	mov $16, %eax			# ioctl(3, RNDRESEEDCRNG)
	mov $3, %edi
	mov $0x5207, %esi
	xor %edx, %edx
	syscall
	test %rax, %rax
	jnz end
	xor %r12d, %r12d
end:
	mov $60, %eax			# exit
	mov %r12d, %edi
	syscall
