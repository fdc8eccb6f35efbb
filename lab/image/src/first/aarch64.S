// A clone's first words, see first.rs: standard input is a struct timespec and a struct rand_pool_info, descriptor 3 is /dev/urandom.
// Exit status: 0, or 1 nothing to read, 2 the clock was not set, 3 nothing was mixed in, 4 the generator was not reseeded.
.globl _start
_start:
	sub sp, sp, #64
	mov w19, #1
	mov x8, #63			// read(0, buffer, 56)
	mov x0, #0
	mov x1, sp
	mov x2, #56
	svc #0
	cmp x0, #56
	b.ne end
	add w19, w19, #1
	mov x8, #112			// clock_settime(CLOCK_REALTIME, buffer)
	mov x0, #0
	mov x1, sp
	svc #0
	cbnz x0, end
	add w19, w19, #1
	mov x8, #29			// ioctl(3, RNDADDENTROPY, buffer + 16)
	mov x0, #3
	movz x1, #0x5203
	movk x1, #0x4008, lsl #16
	add x2, sp, #16
	svc #0
	cbnz x0, end
	add w19, w19, #1
	mov x8, #29			// ioctl(3, RNDRESEEDCRNG)
	mov x0, #3
	movz x1, #0x5207
	mov x2, #0
	svc #0
	cbnz x0, end
	mov w19, #0
end:
	mov x8, #93			// exit
	mov w0, w19
	svc #0
