# The boot sector of the lab's own HVM guest: says over the first serial port what its firmware left on the screen and that it is up, then
# counts, a line a second. It says so with the nonce that is put behind its code when its disk is made. `sector.rs` has what the assembler makes of it, and a test that it is that.
	.code16
	.globl _start
_start:	ljmp $0, $1f
1:	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	cld
	sti
	mov $0xb800, %ax	# 25 lines of 80 characters in text mode, each with a byte for its colours
	mov %ax, %fs
	xor %bx, %bx
row:	mov $0x600, %di
	xor %dx, %dx		# where the last character that is no space ends
5:	mov %fs:(%bx), %al
	add $2, %bx
	stosb
	cmp $0x20, %al
	jbe 6f
	mov %di, %dx
6:	cmp $0x650, %di
	jb 5b
	or %dx, %dx
	jz 7f
	mov %dx, %di
	xor %al, %al
	stosb
	mov $0x600, %si
	call say
	mov $end, %si
	call say
7:	cmp $4000, %bx
	jb row
	xor %ebp, %ebp
	mov $ready, %si
	call line
again:	mov 0x46c, %bx		# ticks since midnight, 18.2 a second: the BIOS counts them when the timer interrupts
2:	hlt
	mov 0x46c, %ax
	sub %bx, %ax
	cmp $18, %ax
	jb 2b
	inc %ebp
	mov $tick, %si
	call line
	jmp again
# Says `xenlab-guest: `, the word at %si, the nonce, and %ebp as eight digits.
line:	push %si
	mov $who, %si
	call say
	pop %si
	call say
	mov $nonce, %si
	call say
	mov $digits, %di
	mov $8, %cx
3:	rol $4, %ebp
	mov %bp, %ax
	and $15, %al
	add $'0', %al
	cmp $'9', %al
	jbe 4f
	add $('a' - '0' - 10), %al
4:	stosb
	loop 3b
	mov $digits - 1, %si
say:	mov %si, %di		# as long as it is
	xor %ax, %ax
	mov $-1, %cx
	repne scasb
	not %cx
	dec %cx
	mov $0x3f8, %dx
	rep outsb
	ret
who:	.asciz "xenlab-guest: "
ready:	.asciz "ready "
tick:	.asciz "tick "
	.byte ' '
digits:	.ascii "00000000"
end:	.asciz "\r\n"
nonce:	.fill 40, 1, 0
	.org 510
	.word 0xaa55
